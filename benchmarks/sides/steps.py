"""What every side reports: loss, tokens and time of each optimizer step. Standard library alone.

A side is started as `python with_<name>.py JOB`; JOB is JSON with the keys

    base            folder of the base (safetensors, config, tokenizer)
    rows            JSONL file: messages, input_ids, trained
    steps           optimizer steps; rows_per_step rows each, in the order of the file
    adapter, rank, alpha, quantize, method, learning_rate, max_tokens
    work            an empty folder

and the options of the side (`roster.Side.options`).

It prints a line that begins with RESULT and goes on in JSON.
"""

import json
import resource
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any

RESULT = "RESULT "
KIB_PER_GIB = float(1 << 20)

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "bitsandbytes",
    "torchtune",
    "torchao",
    "litgpt",
    "llamafactory",
    "tunesmith",
)


class Refused(Exception):
    """A side cannot do what the case asks for; the text says why."""


class Steps:
    """Collects the steps as they are done.

    Seconds run from the end of one step to the end of the next, so that whatever a side does in
    between (fetching, logging) counts. The first step has no beginning and gets 0.
    """

    def __init__(self) -> None:
        self._steps: list[dict[str, Any]] = []
        self._end: float | None = None
        self._fresh()

    def saw(self, tokens: int, trained: int, computed: int) -> None:
        """Count one forward pass.

        Args:
            tokens: Real ones, padding not counted.
            trained: Targets of the loss.
            computed: Positions that went through the model, padding included.
        """
        self._tokens += tokens
        self._trained += trained
        self._computed += computed

    def done(self) -> None:
        """An optimizer step has ended."""
        now = perf_counter()
        self._steps.append(
            {
                "seconds": 0.0 if self._end is None else now - self._end,
                "tokens": self._tokens,
                "trained": self._trained,
                "computed": self._computed,
            }
        )
        self._end = now
        self._fresh()

    def lost(self, loss: float) -> None:
        """The loss of the step that ended last, averaged over its trained tokens."""
        self._steps[-1]["loss"] = float(loss)

    @property
    def list(self) -> list[dict[str, Any]]:
        """All steps so far."""
        return self._steps

    def _fresh(self) -> None:
        self._tokens = self._trained = self._computed = 0


def read_rows(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the job, in order."""
    with open(job["rows"], encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def labels_of(row: dict[str, Any]) -> list[int]:
    """The token ids where they are trained, -100 elsewhere; not shifted."""
    return [i if on else -100 for i, on in zip(row["input_ids"], row["trained"], strict=True)]


def report(side: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Run `side` on the job of the command line and print the RESULT line."""
    job = json.loads(sys.argv[1])
    try:
        result = side(job)
    except Refused as refusal:
        result = {"refused": str(refusal)}
    result["versions"] = _versions()
    result["peak_gib"] = _peak_gib()
    print(f"\n{RESULT}{json.dumps(result)}", flush=True)


def _peak_gib() -> float:
    """Largest resident memory of this process alone.

    The kernel's VmHWM begins anew with the program; ru_maxrss, which other systems have, begins
    with what the process that started it held.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            found = [line.split()[1] for line in file if line.startswith("VmHWM:")]
        return int(found[0]) / KIB_PER_GIB
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
