"""Forgetting: how far a model has moved from the base on everyday instructions.

The base answers a few dozen general prompts greedily, once. Then, on these answers, for the model
as it is now:

    KL    mean over the answer tokens of sum_v p_base(v) (log p_base(v) - log p_now(v))
    loss  mean over the answer tokens of -log p_now(token)

Both read whole distributions, so they move before a score on a panel of questions does. Shenfeld
et al. 2025 (arXiv:2509.04259) find that this KL, there on the prompts of the new task, predicts how
much is forgotten. The base itself has a KL of 0. The stop token that ended an answer is one of its
tokens.

Legend for shapes: N trained tokens of a batch, V vocabulary.
"""

import json
from importlib.resources import files

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.row import Conversation, Message
from tunesmith.data.template import Renderer
from tunesmith.evaluate.probes.base import (
    BaseLogprobs,
    Collate,
    GenerateIds,
    NowLogprobs,
    ProbeResult,
    ProbeSet,
    lay_out,
)
from tunesmith.evaluate.rows import sum_by_row, targets_by_row

PROMPTS = "general_prompts.jsonl"
"""Kinds of prompts take turns in the file, so that its first few are as mixed as all of them."""

CHUNK_POSITIONS = 32
"""Positions compared at a time: 12 MB for a float64 copy of 49,000 tokens."""


class Config(Section):
    """How much is asked."""

    max_new_tokens: int = Field(48, ge=1)
    """Longest answer, in tokens."""
    prompts: int = Field(40, ge=1, le=40)
    """How many prompts are used, from the top of the list."""


def prepare(
    generate_ids: GenerateIds, renderer: Renderer, collate: Collate, config: Config
) -> ProbeSet:
    """Ask the base.

    Args:
        generate_ids: The base; keeps the stop token of an answer.
        renderer: Of the base; without a chat template the prompts are plain text.
        collate: Lays examples out as the run's other batches are.
        config: How much is asked.
    """
    prompts = [renderer.prompt(_conversation(text)) for text in texts()[: config.prompts]]
    return lay_out(prompts, generate_ids(prompts, config.max_new_tokens), PROMPTS, collate)


def texts() -> list[str]:
    """The prompts, in order."""
    lines = files(__package__).joinpath(PROMPTS).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines]


@torch.no_grad()
def measure(probe: ProbeSet, base_logprobs: BaseLogprobs, now_logprobs: NowLogprobs) -> ProbeResult:
    """Compare a model with the base.

    One batch is looked at a time, so no more than two (N, V) tensors are held by this function.

    Args:
        probe: From `prepare`.
        base_logprobs: The base's log-probabilities at the targets of batch i.
        now_logprobs: The model's, for any batch.

    Returns:
        Means over all answer tokens, and the sums of each prompt. A model that gives no
        probability to what the base would say has a KL of infinity; what is NaN stays NaN.
    """
    kl, loss, tokens = [], [], []
    for i, batch in enumerate(probe.batches):
        now_NV = now_logprobs(batch)
        targets_N = batch.targets.to(now_NV.device)
        kl.append(sum_by_row(batch, divergence(base_logprobs(i), now_NV)))
        loss.append(sum_by_row(batch, -now_NV.gather(1, targets_N[:, None]).squeeze(1)))
        tokens.append(targets_by_row(batch))
    kl_n, loss_n, tokens_n = np.concatenate(kl), np.concatenate(loss), np.concatenate(tokens)
    total = int(tokens_n.sum())
    return ProbeResult(
        float(kl_n.sum() / total), float(loss_n.sum() / total), kl_n, loss_n, tokens_n
    )


def divergence(base_NV: Tensor, now_NV: Tensor) -> Tensor:
    """KL(base || now) at each position, over the whole vocabulary.

    Args:
        base_NV: (N, V) log-probabilities; -inf counts as a probability of 0.
        now_NV: (N, V) log-probabilities.

    Returns:
        (N,) float64, in nats.
    """
    parts = []
    chunks = zip(base_NV.split(CHUNK_POSITIONS), now_NV.split(CHUNK_POSITIONS), strict=True)
    for base, now in chunks:
        log_p = base.double()
        p = log_p.exp()
        terms = p * (log_p - now.double())
        parts.append(torch.where(p > 0, terms, 0.0).sum(dim=1))
    return torch.cat(parts) if parts else base_NV.new_zeros(0, dtype=torch.float64)


def _conversation(text: str) -> Conversation:
    # Of kind `completion`, so that a base without a chat template can be asked as well.
    return Conversation((Message("user", text),), kind="completion")
