"""Checkpoints of a run: what goes into one, when it is written, which are kept."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tunesmith.checkpoint.commit import commit
from tunesmith.checkpoint.retain import retain
from tunesmith.checkpoint.state import (
    flatten_optimizer,
    read_state,
    restore_optimizer,
    write_state,
)
from tunesmith.engine.ema import Ema
from tunesmith.engine.groups import names_in_order
from tunesmith.engine.guard import Guard
from tunesmith.engine.sound import unsound
from tunesmith.errors import CheckpointError, RunError
from tunesmith.runs.events import Evaluated, Event, Forgetting, Saved, TaskScore
from tunesmith.runs.patience import patiently

PARAMETER = "parameter/"
"""Opens the names of trained parameters among the tensors of a checkpoint."""


class UnsoundError(RunError):
    """What would be saved holds NaN or infinity; nothing was written."""


@dataclass
class Saver:
    """Writes the checkpoints of one run.

    Attributes:
        root: The run's `checkpoints` folder.
        trained: The trained parameters by name.
        optimizer: Its whole state is saved.
        ema: The average of the parameters, saved beside them, if one is kept.
        every: Steps between checkpoints.
        keep: How many of the newest are kept, besides the best.
        manifest: What every manifest says besides: recipe and hashes.
        history: The evaluations so far, by step.
        best: Says the best step so far, or None.
        also_kept: Says which steps are kept besides, to be averaged at the end.
        guard: Goes on judging in a resumed run as it would have; names checkpoints to keep.
        notice: Where `Saved` is told.
    """

    root: Path
    trained: dict[str, nn.Parameter]
    optimizer: Optimizer
    ema: Ema | None
    every: int
    keep: int
    manifest: dict[str, Any]
    history: dict[int, Evaluated]
    best: Callable[[], int | None]
    also_kept: Callable[[], set[int]]
    guard: Guard
    notice: Callable[[Event], None]

    def __call__(self, step: int, must: bool) -> None:
        """Save after `step` steps if it is due or `must` be; then drop what need not be kept.

        A full disk is waited for, if the run does that: what is to be saved is still in memory.

        Raises:
            UnsoundError: A parameter or something of the optimizer is not finite.
        """
        if not must and step % self.every:
            return
        self._require_finite(step)
        self.guard.saved(step)
        path = patiently(
            lambda: commit(self.root, step, lambda to: self._write(to, step), self.manifest)
        )
        best = self.best()
        self.notice(Saved(step, str(path), best == step))
        protected = self.guard.kept | self.also_kept() | (set() if best is None else {best})
        patiently(lambda: retain(self.root, self.keep, protected))

    def _require_finite(self, step: int) -> None:
        bad = unsound(self._tensors()[0])
        if bad:
            raise UnsoundError(
                f"step {step}",
                got=f"NaN or infinity in {len(bad)} tensors to be saved, such as {bad[0]}",
                expected="finite numbers",
            )

    def _write(self, folder: Path, step: int) -> None:
        tensors, values = self._tensors()
        state = {
            "step": step,
            "optimizer": values,
            "history": [asdict(evaluated) for evaluated in self.history.values()],
            "guard": self.guard.state(),
        }
        if self.ema is not None:
            state["ema"] = self.ema.state()
        write_state(folder, tensors, state)

    def _tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Every tensor of a checkpoint by name, not copied, and what else the optimizer keeps."""
        tensors, values = flatten(self.optimizer, self.trained)
        tensors |= {PARAMETER + name: p.detach() for name, p in self.trained.items()}
        return tensors | (self.ema.tensors() if self.ema is not None else {}), values


def flatten(
    optimizer: Optimizer, trained: dict[str, nn.Parameter]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """All that the optimizer keeps, under the names of its parameters."""
    return flatten_optimizer(optimizer, names_in_order(optimizer.param_groups, trained))


def num_bytes(trained: dict[str, nn.Parameter], optimizer: Optimizer) -> int:
    """Bytes of the tensors of a checkpoint; of the moments as far as the optimizer has them yet."""
    tensors, _ = flatten(optimizer, trained)
    whole = [*tensors.values(), *trained.values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in whole)


def restore(
    folder: Path,
    trained: dict[str, nn.Parameter],
    optimizer: Optimizer | None,
    ema: Ema | None = None,
) -> dict[str, Any]:
    """Bring parameters, and optimizer and average if given, to a verified checkpoint's state.

    Returns:
        The values saved besides: step, history, guard.

    Raises:
        CheckpointError: The checkpoint is of other parameters.
    """
    tensors, values = read_state(folder)
    saved = _parameters(tensors)
    _check_names(folder, saved, trained)
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(saved[name])
    if optimizer is not None:
        moments = {n: t for n, t in tensors.items() if not n.startswith(PARAMETER)}
        names = names_in_order(optimizer.param_groups, trained)
        restore_optimizer(optimizer, names, moments, values["optimizer"])
    if ema is not None:
        ema.load(tensors, values["ema"])
    return values


def read_parameters(folder: Path) -> dict[str, torch.Tensor]:
    """The trained parameters of a verified checkpoint, by name.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    tensors, _ = read_state(folder)
    return _parameters(tensors)


def _parameters(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.removeprefix(PARAMETER): t for n, t in tensors.items() if n.startswith(PARAMETER)}


def read_history(values: dict[str, Any]) -> dict[int, Evaluated]:
    """The evaluations that a checkpoint knows, by step."""
    history = {}
    for record in values["history"]:
        tasks = tuple(TaskScore(**task) for task in record["tasks"])
        forgetting = record["forgetting"] and Forgetting(**record["forgetting"])
        evaluated = Evaluated(**{**record, "tasks": tasks, "forgetting": forgetting})
        history[evaluated.step] = evaluated
    return history


def _check_names(
    folder: Path, saved: dict[str, torch.Tensor], trained: dict[str, nn.Parameter]
) -> None:
    wrong = sorted(saved.keys() ^ trained.keys())
    wrong += [n for n in saved if n in trained and saved[n].shape != trained[n].shape]
    if wrong:
        raise CheckpointError(
            str(folder),
            got=f"{len(wrong)} parameters that do not match, such as {wrong[0]}",
            expected="the parameters of this recipe's adapter on this base",
        )
