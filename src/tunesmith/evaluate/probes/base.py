"""What a probe asks, what the base answered, and what a measurement of it gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.data.example import Batch, Example

GenerateIds = Callable[[list[list[int]], int], list[list[int]]]
"""Answers prompts with at most so many new tokens; an answer that was ended by a stop token has it
as its last token (`GenerateOptions.keep_stop`)."""

Collate = Callable[[Sequence[Example]], Batch]
"""Lays examples out for one forward pass."""

BaseLogprobs = Callable[[int], Tensor]
"""(N, V) log-probabilities of the base where batch `i` of a probe has its N targets."""

NowLogprobs = Callable[[Batch], Tensor]
"""(N, V) log-probabilities of the model as it is now where a batch has its N targets."""

MAX_BATCH_TOKENS = 128
"""Answer tokens of one batch of a probe: 25 MB for each (N, V) tensor of 49,000 tokens in fp32."""


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """Prompts with the base's own answers to them, laid out for comparing.

    Attributes:
        prompts: Token ids.
        answers: Token ids of the base's answers, the stop token with them where there was one.
        batches: The two, one behind the other, with the answers as targets; prompts in their order.
    """

    prompts: list[list[int]]
    answers: list[list[int]]
    batches: tuple[Batch, ...]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How far a model has moved from the base on the base's own answers.

    Attributes:
        kl: Mean KL(base || now) per answer token, in nats.
        loss: Mean -log p now of the answer tokens, in nats.
        per_prompt_kl: (n,) float64, KL summed over the tokens of each answer.
        per_prompt_loss: (n,) float64, the loss summed likewise.
        per_prompt_tokens: (n,) tokens of each answer: the `counts` of a paired bootstrap.
    """

    kl: float
    loss: float
    per_prompt_kl: NDArray[np.float64]
    per_prompt_loss: NDArray[np.float64]
    per_prompt_tokens: NDArray[np.int64]


def lay_out(
    prompts: list[list[int]],
    answers: list[list[int]],
    source: str,
    collate: Collate,
    max_tokens: int = MAX_BATCH_TOKENS,
) -> ProbeSet:
    """Batches of prompts with their answers; also for answers that were kept from before.

    Args:
        prompts: Token ids, none empty.
        answers: As many, in the same order, none empty.
        source: File of the prompts, for the batches' `rows`.
        collate: Lays examples out.
        max_tokens: Answer tokens of one batch; an answer that is longer has one of its own.
    """
    batches: list[Batch] = []
    waiting: list[Example] = []
    num_tokens = 0
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True), 1):
        if waiting and num_tokens + len(answer) > max_tokens:
            batches.append(collate(waiting))
            waiting, num_tokens = [], 0
        ids = np.array([*prompt, *answer], dtype=np.int32)
        waiting.append(Example(ids, np.arange(len(ids)) >= len(prompt), source, number))
        num_tokens += len(answer)
    if waiting:
        batches.append(collate(waiting))
    return ProbeSet(prompts, answers, tuple(batches))
