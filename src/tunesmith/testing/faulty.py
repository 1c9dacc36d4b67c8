"""Faults put into a run of the tests, by the step at which they strike."""

import math
from collections.abc import Callable, Iterable
from hashlib import sha256
from importlib import import_module
from typing import Any, Protocol

import torch

from tunesmith.api import build
from tunesmith.api.batches import build_loader
from tunesmith.api.learner import Learner, build_base
from tunesmith.api.report import Chosen, assemble
from tunesmith.api.resolve import resolve
from tunesmith.api.rows import build_rows
from tunesmith.api.session import Session
from tunesmith.data.example import Batch
from tunesmith.export.artefact import fingerprints
from tunesmith.methods.base import LossSum
from tunesmith.recipe import Recipe
from tunesmith.runs.folder import write_json

Fault = Callable[[Batch, LossSum, Learner], LossSum]
"""What becomes of the loss of a batch."""


class Patch(Protocol):
    """pytest's `monkeypatch`, as far as it is used here."""

    def setattr(self, target: Any, name: str, value: Any) -> None:
        """Replace an attribute until the test is over."""


def step_now() -> int:
    """The step under way, from 0: the loop seeds torch with it when the recipe's seed is 0."""
    return torch.initial_seed()


class Poison:
    """Rows whose loss is not finite, at some steps.

    Args:
        rows: (source, row) that spoil a batch.
        steps: Steps, from 0, at which they do.
    """

    def __init__(self, rows: Iterable[tuple[str, int]], steps: Iterable[int]) -> None:
        self.rows, self.steps = set(rows), set(steps)

    def __call__(self, batch: Batch, loss: LossSum, learner: Learner) -> LossSum:
        """NaN for a batch with such a row at such a step."""
        spoiled = step_now() in self.steps and self.rows & set(batch.rows)
        return LossSum(loss.total * math.nan, loss.count) if spoiled else loss


class Once:
    """Something done at one step of training, the first time that it comes.

    Args:
        step: From 0.
        act: What is done; may give another loss.
    """

    def __init__(self, step: int, act: Callable[..., LossSum | None]) -> None:
        self.step, self.act, self.done = step, act, False

    def __call__(self, batch: Batch, loss: LossSum, learner: Learner) -> LossSum:
        """The loss, or what `act` makes of it."""
        if self.done or step_now() != self.step or not torch.is_grad_enabled():
            return loss
        self.done = True
        return self.act(batch, loss, learner) or loss


def strike(patch: Patch, fault: Fault) -> None:
    """Pass every loss of training through `fault`."""
    good = build.build_loss

    def build_loss(recipe: Recipe, learner: Learner) -> Callable[[Batch], LossSum]:
        loss = good(recipe, learner)
        return lambda batch: fault(batch, loss(batch), learner)

    patch.setattr(build, "build_loss", build_loss)


def rows_of(recipe: Recipe, steps: Iterable[int]) -> list[tuple[str, int]]:
    """(source, row) of the rows of these steps, from 0."""
    recipe = resolve(recipe)
    loader = build_loader(recipe, build_rows(recipe, build_base(recipe)))
    found = [row for step in steps for row in loader.places(loader.examples(step))]
    loader.close()
    return found


def leave_out_export(patch: Patch) -> None:
    """End runs without an export: what it is compared in, a fresh process, takes seconds.

    The report has a hash of the trained parameters in the place of the artefact's.
    """

    def finish(session: Session) -> dict[str, Any]:
        chosen = Chosen(session.best, session.best or 0)
        report = assemble(session, chosen, None, None, ("succeeded", ""))
        bits = repr(sorted(fingerprints(session.learner.attached.trained).items()))
        report["artefact"] = {"sha256": sha256(bits.encode()).hexdigest()}
        write_json(session.folder.report_json, report)
        return report

    # The package has a function of the name of this module.
    patch.setattr(import_module("tunesmith.api.train"), "finish", finish)
