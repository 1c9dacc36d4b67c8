"""What a run leaves that another must equal, bit for bit."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from tunesmith.checkpoint.layout import step_folder
from tunesmith.checkpoint.state import read_state
from tunesmith.checkpoint.verify import verify
from tunesmith.engine.rollouts.shelf import Rows, Shelf
from tunesmith.engine.saving import PARAMETER
from tunesmith.export.artefact import fingerprints
from tunesmith.runs.folder import RunFolder
from tunesmith.runs.timeline import Record, Timeline

NUMBERS = ("learning_rate", "seed", "loss", "grad_norm", "tokens", "tokens_trained", "rejected")
"""What is compared of each step, besides its rows."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One run of a proof, at its end.

    Attributes:
        steps: What was told of each step, the last telling of each.
        weights: A hash of the bits of each trained parameter.
        optimizer: The same for each tensor of the optimizer.
        options: What the optimizer keeps besides tensors.
        counters: What else the run goes on with: the step, what was rejected, the guard's state.
        evaluations: What was measured by then, without the seconds it took.
        asked: Rows whose prompts were answered, in order, by the step (from 1) that was the first
            to train on the answers; empty where none are drawn.
    """

    steps: list[Record]
    weights: dict[str, str]
    optimizer: dict[str, str]
    options: dict[str, Any]
    counters: dict[str, Any]
    evaluations: list[Record]
    asked: dict[int, Rows] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: RunFolder, step: int) -> "Trace":
        """The trace of a run that was stopped after `step` steps.

        Raises:
            CheckpointError: Its checkpoint is not there, or not as it was written.
        """
        tensors, values = read_state(verify(step_folder(folder.checkpoints, step)).folder)
        hashes = fingerprints(tensors)
        history = values.pop("history")
        return cls(
            steps=Timeline.read(folder.events).steps,
            weights={
                name.removeprefix(PARAMETER): digest
                for name, digest in hashes.items()
                if name.startswith(PARAMETER)
            },
            optimizer={n: digest for n, digest in hashes.items() if not n.startswith(PARAMETER)},
            options=values.pop("optimizer"),
            counters=values,
            evaluations=[{k: v for k, v in each.items() if k != "seconds"} for each in history],
            asked=Shelf(folder.rollouts).rows(),
        )

    def hashes(self) -> dict[str, str]:
        """One SHA-256 for each thing that is compared."""
        compared = {
            "weights": self.weights,
            "optimizer": [self.optimizer, self.options],
            "order": [step["digest"] for step in self.steps],
            "numbers": [[step[name] for name in NUMBERS] for step in self.steps],
            "counters": self.counters,
            "evaluations": self.evaluations,
        }
        return {name: sha256(repr(it).encode()).hexdigest() for name, it in compared.items()}
