"""Measures a run before, during and after training: held-out loss, tasks, forgetting.

A measure that fails is skipped and named; it ends no run.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from tunesmith.engine.shrink import S, Shrinks, T, attempt
from tunesmith.errors import MachineError
from tunesmith.evaluate.heldout import HeldoutResult
from tunesmith.evaluate.probes.base import ProbeResult
from tunesmith.evaluate.task import GenerateTexts, TaskResult, TaskRows, run_task
from tunesmith.models.policy import Policy
from tunesmith.models.resting import resting
from tunesmith.runs.events import Evaluated, Event, Forgetting, Phase, TaskScore, Warned
from tunesmith.runs.folder import write_json

MAX_NAMED = 3
"""Rows that a grader failed on that a warning names; the details of the evaluation name all."""


class Heldout(Shrinks, Protocol):
    """Held-out rows."""

    def measure(self) -> HeldoutResult:
        """What the model as it is now makes of them."""


class Speaker(Shrinks, Protocol):
    """The model as it is now, answering greedily."""

    texts: GenerateTexts


class Probe(Shrinks, Protocol):
    """A measure of what the base could already do, ready to compare a model with it."""

    name: str

    def measure(self) -> ProbeResult:
        """Compare the model as it is now with the base."""


@dataclass
class Evaluator:
    """Measures when it is due, remembers what it found, and leaves the details in the run folder.

    Attributes:
        policy: The model.
        speaker: Answers the tasks.
        heldout: Held-out rows; None without `data.eval`.
        tasks: The user's own measures.
        probes: Of what the base could do; the first one is held against the budget.
        folder: Gets `step-N.json` with every score, output and loss.
        every: Steps between evaluations; None measures at the end only.
        num_steps: Steps of the run.
        notice: Where events are told.
        missing: Measures that cannot be made at all: probes that the base could not be asked.
        history: What was found, by step; step 0 is the base.
        weights: Makes a context in which the model has the weights to measure.
        averages: What was found of averages of weights, by their names.
    """

    policy: Policy
    speaker: Speaker
    heldout: Heldout | None
    tasks: Sequence[TaskRows]
    probes: list[Probe]
    folder: Path
    every: int | None
    num_steps: int
    notice: Callable[[Event], None]
    missing: tuple[str, ...] = ()
    history: dict[int, Evaluated] = field(default_factory=dict)
    weights: Callable[[], AbstractContextManager[None]] = nullcontext
    averages: dict[str, Evaluated] = field(default_factory=dict)

    @property
    def measures(self) -> bool:
        """Whether there is anything to measure."""
        return bool(self.heldout or self.tasks or self.probes or self.missing)

    @property
    def decides(self) -> bool:
        """Whether it measures something by which one set of weights is better than another."""
        return bool(self.heldout or self.tasks)

    def __call__(self, step: int) -> bool:
        """Measure after `step` steps if that is due; says whether it did."""
        due = step == self.num_steps or (self.every is not None and step % self.every == 0)
        if not due or not self.measures or step in self.history:
            return False
        self.measure(step)
        return True

    def measure(self, step: int) -> Evaluated:
        """Measure now, whether due or not.

        Raises:
            MachineError: The disk refused the details.
        """
        self.notice(Phase("measuring the base" if step == 0 else f"measuring step {step}"))
        with self.weights():
            evaluated = self._measure(step, self.details_path(step))
        self.history[step] = evaluated
        self.notice(evaluated)
        return evaluated

    def measure_average(self, name: str, step: int) -> Evaluated:
        """Measure the weights as they are, an average that was made after `step` steps.

        It is no moment of the run: it is not told, and does not enter the history.

        Raises:
            MachineError: The disk refused the details.
        """
        self.notice(Phase(f"measuring {name}"))
        self.averages[name] = self._measure(step, self.details_path(name))
        return self.averages[name]

    def found(self, which: int | str) -> Evaluated:
        """What was found at a step, or of an average."""
        return self.averages[which] if isinstance(which, str) else self.history[which]

    def _measure(self, step: int, path: Path) -> Evaluated:
        start = perf_counter()
        details: dict[str, Any] = {"step": step, "skipped": list(self.missing)}
        with resting(self.policy.model):
            loss, figures = self._heldout(details)
            scores = self._tasks(details)
            forgetting = self._forgetting(details)
        skipped = tuple(details["skipped"])
        seconds = perf_counter() - start
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, details)
        return Evaluated(step, loss, scores, forgetting, seconds, skipped, figures)

    def details_path(self, which: int | str) -> Path:
        """Where the details of one evaluation lie: of a step, or of an average by its name."""
        name = which.replace(" ", "-") if isinstance(which, str) else f"step-{which}"
        return self.folder / f"{name}.json"

    def _try(
        self, name: str, details: dict[str, Any], what: S, measure: Callable[[S], T]
    ) -> tuple[T | None, S]:
        """Measure `what`, in smaller pieces if need be; without a result where that fails.

        The border that keeps a measure from ending a run. Only a disk that refuses and a user who
        stops the run pass: neither is the fault of the measure.
        """
        try:
            result, pieces = attempt(what, measure)
        except (MachineError, KeyboardInterrupt):
            raise
        except Exception as error:
            details["skipped"].append(name)
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            self.notice(Warned(f"step {details['step']}: {name} was not measured ({why})"))
            return None, what
        if pieces is not what:
            self.notice(Warned(f"{name} is measured in smaller batches: memory did not suffice"))
        return result, pieces

    def _heldout(self, details: dict[str, Any]) -> tuple[float | None, dict[str, float]]:
        if self.heldout is None:
            return None, {}
        result, self.heldout = self._try(
            "held-out loss", details, self.heldout, lambda rows: rows.measure()
        )
        if result is None:
            return None, {}
        details["heldout"] = {
            "sums": _plain(result.per_row_sum),
            "counts": _plain(result.per_row_count),
            "figures": {name: _plain(values) for name, values in result.figures.items()},
            "overall": result.overall,
        }
        means = {name: float(values.mean()) for name, values in result.figures.items()}
        return result.loss, means | result.overall

    def _tasks(self, details: dict[str, Any]) -> tuple[TaskScore, ...]:
        scores = []
        details["tasks"] = []
        for task in self.tasks:
            result, self.speaker = self._try(
                f"task {task.name}", details, self.speaker, partial(_run, task)
            )
            if result is None:
                continue
            failures = [asdict(failure) for failure in result.failures]
            details["tasks"].append(
                {
                    "name": result.name,
                    "scores": _plain(result.scores),
                    "outputs": result.outputs,
                    "failures": failures,
                }
            )
            if failures:
                self.notice(Warned(_ungraded(details["step"], result)))
            scores.append(TaskScore(result.name, len(result.outputs), result.score, len(failures)))
        return tuple(scores)

    def _forgetting(self, details: dict[str, Any]) -> Forgetting | None:
        found: dict[str, Forgetting] = {}
        for number, probe in enumerate(self.probes):
            result, self.probes[number] = self._try(
                f"probe {probe.name}", details, probe, lambda each: each.measure()
            )
            if result is None:
                continue
            details.setdefault("probes", {})[probe.name] = {
                "kl_sums": _plain(result.per_prompt_kl),
                "loss_sums": _plain(result.per_prompt_loss),
                "counts": _plain(result.per_prompt_tokens),
            }
            found[probe.name] = Forgetting(result.kl, result.loss)
        return found.get(self.probes[0].name) if self.probes else None


def _run(task: TaskRows, speaker: Speaker) -> TaskResult:
    return run_task(task, speaker.texts)


def _ungraded(step: int, result: TaskResult) -> str:
    """What is told of the rows that could not be graded."""
    named = "; ".join(f"{f.place}: {f.reason}" for f in result.failures[:MAX_NAMED])
    more = len(result.failures) - MAX_NAMED
    rest = f"; and {more} more" if more > 0 else ""
    return (
        f"step {step}: task {result.name}: the grader failed on {len(result.failures)} of "
        f"{len(result.outputs)} rows, which score 0: {named}{rest}"
    )


def _plain(values: np.ndarray) -> list[float]:
    return [float(value) for value in values]
