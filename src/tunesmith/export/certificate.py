"""The certificate: what lies on the disk answers as the model in memory does.

A model trained over a quantised base is compared over that base, quantised anew from its files:
like with like. How far the same adapter is from that over the base as published is told beside it;
it decides nothing, since nobody trained or measured that model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from tunesmith.export import stranger
from tunesmith.export.asked import Asked, Reply, of_model, questions
from tunesmith.export.differ import Difference, differ
from tunesmith.export.ollama import Parity
from tunesmith.export.reload import TRANSFORMERS, Holding, tokenizer_of
from tunesmith.export.tolerance import Tolerance, as_trained
from tunesmith.models import fast
from tunesmith.models.heads import pooling_of
from tunesmith.models.narrow import one_type
from tunesmith.models.quantize import NONE, kind_of
from tunesmith.models.resting import resting

NUM_TOKENS = 16
"""Greedy tokens compared after each prompt."""

OVER_WIDE_BASE = "over the base as published"
"""Name in `Certificate.also` of the adapter over the base that has not been quantised."""


@dataclass(frozen=True, slots=True)
class HeldoutLoss:
    """Loss of the trained model and of the export on the same held-out rows, nats per token."""

    rows: int
    tokens: int
    trained: float
    exported: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the comparison found; the figures are those of `differ.Difference`.

    Attributes:
        ok: Whether all of them are within the tolerance, and texts give the same ids.
        tolerance: Largest difference of two logits that is accepted; None where others decide.
        prompts: How many prompts were compared.
        also: Comparisons that are told and decide nothing, by what was compared.
        positions: How many positions of prompts and answers were compared.
        limits: Everything that decides, with the values accepted.
        reader: The program that read the export in the other process.
        heldout_loss: None without held-out rows.
        texts: How many texts were turned into ids by both tokenizers.
        unequal_texts: For how many the ids differ.
        template: How a template written anew compares with that of training; None where the
            export has that itself.
    """

    ok: bool
    max_logit_difference: float
    tolerance: float | None
    equal_greedy_tokens: float
    prompts: int
    also: dict[str, Difference] = field(default_factory=dict)
    mean_kl: float = 0.0
    worst_kl: float = 0.0
    relative_difference: float = 0.0
    positions: int = 0
    limits: dict[str, float] = field(default_factory=dict)
    reader: str = TRANSFORMERS
    heldout_loss: HeldoutLoss | None = None
    texts: int = 0
    unequal_texts: int = 0
    template: Parity | None = None

    def faults(self) -> list[str]:
        """What is over its limit, as `figure value (limit)`."""
        found = [
            f"{name} {getattr(self, name):.3g} (limit {limit:g})"
            for name, limit in self.limits.items()
            if not within(name, getattr(self, name), limit)
        ]
        if self.unequal_texts:
            found.append(f"{self.unequal_texts} of {self.texts} texts with other token ids")
        return found


def within(name: str, value: float, limit: float) -> bool:
    """Whether a figure keeps its limit; NaN keeps none."""
    return value >= limit if name == "equal_greedy_tokens" else value <= limit


def certify(model: PreTrainedModel, folder: Path, prompts: list[list[int]]) -> Certificate:
    """Reload `folder` in a fresh process and compare its answers with those of `model`.

    Args:
        model: The trained model in memory; its fast paths are taken off for the comparison.
        folder: The artefact.
        prompts: Token ids of held-out prompts; at least one.

    Raises:
        RunError: The artefact does not load.
    """
    with _plain(model) as dtype:
        held = Holding(dtype, kind_of(model))
        asked = questions(model, prompts, NUM_TOKENS, pooling_of(folder))
        expected = of_model(model, tokenizer_of(folder), asked)
    told = stranger.ask(folder, asked, held, model.device)
    made = compare(asked, expected, told, as_trained(held.dtype))
    if held.quantize == NONE:
        return made
    wide = stranger.ask(folder, asked, Holding(held.dtype), model.device)
    return replace(made, also={OVER_WIDE_BASE: differ(expected, wide.reply)})


def compare(
    asked: Asked, expected: Reply, told: stranger.Told, tolerance: Tolerance
) -> Certificate:
    """The certificate of what the trained model and the export replied to the same questions."""
    found = differ(expected, told.reply)
    limits = tolerance.limits()
    same = [
        ours == theirs
        for ours, theirs in zip(expected.token_ids, told.reply.token_ids, strict=True)
    ]
    figures = asdict(found)
    return Certificate(
        ok=all(same) and all(within(name, figures[name], limit) for name, limit in limits.items()),
        tolerance=tolerance.max_logit_difference if tolerance.max_logit_difference < inf else None,
        prompts=len(asked.sequences),
        positions=len(expected.logits),
        limits=limits,
        reader=told.reader,
        heldout_loss=_heldout(asked.rows, expected, told.reply),
        texts=len(same),
        unequal_texts=same.count(False),
        **figures,
    )


def _heldout(
    rows: Sequence[tuple[list[int], list[bool]]], expected: Reply, got: Reply
) -> HeldoutLoss | None:
    tokens = sum(sum(trained[1:]) for _, trained in rows)
    if not tokens:
        return None
    losses: dict[str, Any] = {
        "trained": expected.losses.sum().item() / tokens,
        "exported": got.losses.sum().item() / tokens,
    }
    return HeldoutLoss(len(rows), tokens, **losses)


@contextmanager
def _plain(model: PreTrainedModel) -> Iterator[torch.dtype]:
    """The model on PEFT's and transformers' own paths for the time of the block, and its type."""
    with resting(model):
        fast.take_off(model)
        try:
            with one_type(model) as dtype:
                yield dtype
        finally:
            fast.lay_over(model)
