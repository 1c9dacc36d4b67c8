"""Measures a run before, during and after training: held-out loss, tasks, forgetting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from tunesmith.data.example import Batch
from tunesmith.evaluate.heldout import heldout_loss
from tunesmith.evaluate.probes.base import ProbeResult
from tunesmith.evaluate.task import GenerateTexts, TaskRows, run_task
from tunesmith.models.policy import Policy
from tunesmith.runs.events import Evaluated, Event, Forgetting, Phase, TaskScore, Warned
from tunesmith.runs.folder import write_json


class Probe(Protocol):
    """A measure of what the base could already do, ready to compare a model with it."""

    name: str

    def measure(self) -> ProbeResult:
        """Compare the model as it is now with the base."""


@dataclass
class Evaluator:
    """Measures when it is due, remembers what it found, and leaves the details in the run folder.

    Attributes:
        policy: The model.
        generate: Greedy answers of the model as it is now.
        heldout: Held-out rows as batches; empty without `data.eval`.
        tasks: The user's own measures.
        probes: Of what the base could do; the first one is held against the budget.
        folder: Gets `step-N.json` with every score, output and loss.
        every: Steps between evaluations; None measures at the end only.
        num_steps: Steps of the run.
        notice: Where events are told.
        history: What was found, by step; step 0 is the base.
    """

    policy: Policy
    generate: GenerateTexts
    heldout: Sequence[Batch]
    tasks: Sequence[TaskRows]
    probes: Sequence[Probe]
    folder: Path
    every: int | None
    num_steps: int
    notice: Callable[[Event], None]
    history: dict[int, Evaluated] = field(default_factory=dict)

    @property
    def measures(self) -> bool:
        """Whether there is anything to measure."""
        return bool(self.heldout or self.tasks or self.probes)

    def __call__(self, step: int) -> bool:
        """Measure after `step` steps if that is due; says whether it did."""
        due = step == self.num_steps or (self.every is not None and step % self.every == 0)
        if not due or not self.measures or step in self.history:
            return False
        self.measure(step)
        return True

    def measure(self, step: int) -> Evaluated:
        """Measure now, whether due or not."""
        start = perf_counter()
        self.notice(Phase("measuring the base" if step == 0 else f"measuring step {step}"))
        was_training = self.policy.model.training
        self.policy.model.eval()
        details: dict[str, Any] = {"step": step}
        loss = self._heldout(details)
        scores = self._tasks(details)
        forgetting = self._forgetting(details)
        self.policy.model.train(was_training)
        evaluated = Evaluated(step, loss, scores, forgetting, perf_counter() - start)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.details_path(step), details)
        self.history[step] = evaluated
        self.notice(evaluated)
        return evaluated

    def details_path(self, step: int) -> Path:
        """Where the details of one evaluation lie."""
        return self.folder / f"step-{step}.json"

    def _heldout(self, details: dict[str, Any]) -> float | None:
        if not self.heldout:
            return None
        result = heldout_loss(self.policy.token_nll, self.heldout)
        details["heldout"] = {
            "sums": _plain(result.per_row_sum),
            "counts": _plain(result.per_row_count),
        }
        return result.loss

    def _tasks(self, details: dict[str, Any]) -> tuple[TaskScore, ...]:
        scores = []
        details["tasks"] = []
        for task in self.tasks:
            result = run_task(task, self.generate)
            details["tasks"].append(
                {"name": result.name, "scores": _plain(result.scores), "outputs": result.outputs}
            )
            for failure in result.failures[:3]:
                self.notice(Warned(f"task {result.name}: {failure.place}: {failure.reason}"))
            scores.append(TaskScore(result.name, len(result.outputs), result.score))
        return tuple(scores)

    def _forgetting(self, details: dict[str, Any]) -> Forgetting | None:
        found = []
        for probe in self.probes:
            result = probe.measure()
            details.setdefault("probes", {})[probe.name] = {
                "kl_sums": _plain(result.per_prompt_kl),
                "loss_sums": _plain(result.per_prompt_loss),
                "counts": _plain(result.per_prompt_tokens),
            }
            found.append(Forgetting(result.kl, result.loss))
        return found[0] if found else None


def _plain(values: np.ndarray) -> list[float]:
    return [float(value) for value in values]
