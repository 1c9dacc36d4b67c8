"""Who is measured: the sides, each a script, an environment, and its settings."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent / "sides"

MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
}
"""Keeps glibc from handing memory back and faulting it in again at every step; 32 MiB is the
largest threshold that it takes. A TRL step gets shorter by 27 % through this alone."""

OURS = "tunesmith"
"""The side that every ratio is taken to."""


@dataclass(frozen=True, slots=True)
class Side:
    """One program with one set of settings.

    Attributes:
        name: As given to `--sides`.
        title: For people: what it is and how it is set.
        script: In `sides/`.
        environment: File in `pins/` that its own environment is made from; None for this one.
        malloc: Whether it is started with `MALLOC`.
        options: What the script is told besides the case.
    """

    name: str
    title: str
    script: str
    environment: str | None = None
    malloc: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The script."""
        return SCRIPTS / self.script


_ALL = (
    Side(OURS, "Tunesmith, malloc settings", "with_tunesmith.py", malloc=True),
    Side("tunesmith-plain", "Tunesmith as installed", "with_tunesmith.py"),
    Side(
        "tunesmith-reference",
        "Tunesmith with the kernels of transformers and PEFT",
        "with_tunesmith.py",
        malloc=True,
        options={"kernels": "reference"},
    ),
    Side(
        "tunesmith-int8",
        "Tunesmith on an int8 base, malloc settings",
        "with_tunesmith.py",
        malloc=True,
        options={"quantize": "int8"},
    ),
    Side(
        "trl", "TRL as installed: fp32 weights, bf16 autocast, checkpointing", "with_trl.py", "trl"
    ),
    Side(
        "trl-tuned",
        "TRL tuned: weights in the faster type, no checkpointing, a row in a pass, malloc settings",
        "with_trl.py",
        "trl",
        malloc=True,
        options={"tuned": True, "rows_per_pass": 1},
    ),
    Side(
        "trl-padding-free",
        "TRL tuned: weights in the faster type, no checkpointing, rows end to end, malloc settings",
        "with_trl.py",
        "trl",
        malloc=True,
        options={"tuned": True, "padding_free": True},
    ),
    Side(
        "hf-trainer",
        "transformers Trainer and PEFT: weights in the faster type, padded, malloc settings",
        "with_transformers.py",
        "transformers",
        malloc=True,
    ),
    Side("torchtune", "torchtune, malloc settings", "with_torchtune.py", "torchtune", malloc=True),
    Side("litgpt", "LitGPT, malloc settings", "with_litgpt.py", "litgpt", malloc=True),
    Side(
        "llamafactory",
        "LlamaFactory, malloc settings",
        "with_llamafactory.py",
        "llamafactory",
        malloc=True,
    ),
)

SIDES = {side.name: side for side in _ALL}
"""By name, in the order of the table."""
