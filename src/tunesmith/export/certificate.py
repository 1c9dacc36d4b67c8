"""The certificate: what lies on the disk answers as the model in memory does.

A model trained over a quantised base is compared over that base, quantised anew from its files:
like with like. How far the same adapter is from that over the base as published is told beside it;
it decides nothing, since nobody trained or measured that model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.export import stranger
from tunesmith.export.reload import Holding, answer
from tunesmith.models import fast
from tunesmith.models.quantize import NONE, kind_of

NUM_TOKENS = 16
"""Greedy tokens compared after each prompt."""
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.05}
"""Largest difference between logits. Both sides run the same code on the same numbers, so what is
measured is 0; the room is for another number of threads."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two models answer alike."""

    max_logit_difference: float
    equal_greedy_tokens: float
    """Share of the greedy tokens that are equal."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the comparison found."""

    ok: bool
    max_logit_difference: float
    tolerance: float
    equal_greedy_tokens: float
    """Share of the greedy tokens that are equal."""
    prompts: int
    also: dict[str, Difference] = field(default_factory=dict)
    """Comparisons that are told and decide nothing, by what was compared."""


OVER_WIDE_BASE = "over the base as published"
"""Name in `Certificate.also` of the adapter over the base that has not been quantised."""


def certify(model: PreTrainedModel, folder: Path, prompts: list[list[int]]) -> Certificate:
    """Reload `folder` in a fresh process and compare its answers with those of `model`.

    Args:
        model: The trained model in memory; its fast paths are taken off for the comparison.
        folder: The artefact.
        prompts: Token ids of held-out prompts; at least one.

    Raises:
        RunError: The artefact does not load.
    """
    held = Holding(model.dtype, kind_of(model))
    with _plain(model):
        expected = answer(model, prompts, NUM_TOKENS)
    got = stranger.ask(folder, prompts, NUM_TOKENS, held, model.device)
    made = compare(expected, got, TOLERANCES.get(held.dtype, TOLERANCES[torch.bfloat16]))
    if held.quantize == NONE:
        return made
    wide = stranger.ask(folder, prompts, NUM_TOKENS, Holding(held.dtype), model.device)
    return replace(made, also={OVER_WIDE_BASE: differ(expected, wide)})


def compare(expected: dict[str, Tensor], got: dict[str, Tensor], tolerance: float) -> Certificate:
    """The certificate of two sets of answers to the same prompts."""
    found = differ(expected, got)
    return Certificate(
        ok=found.max_logit_difference <= tolerance and found.equal_greedy_tokens == 1.0,
        max_logit_difference=found.max_logit_difference,
        tolerance=tolerance,
        equal_greedy_tokens=found.equal_greedy_tokens,
        prompts=len(expected["tokens"]),
    )


def differ(expected: dict[str, Tensor], got: dict[str, Tensor]) -> Difference:
    """How far two sets of answers to the same prompts, as `reload.answer` gives them, differ."""
    return Difference(
        (expected["logits"] - got["logits"]).abs().max().item(),
        (expected["tokens"] == got["tokens"]).float().mean().item(),
    )


@contextmanager
def _plain(model: PreTrainedModel) -> Iterator[None]:
    """The model on PEFT's and transformers' own paths for the time of the block."""
    was_training = model.training
    model.eval()
    fast.take_off(model)
    try:
        yield
    finally:
        fast.lay_over(model)
        model.train(was_training)
