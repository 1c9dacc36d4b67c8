"""Starts the warm process of a system and asks it for trials."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import PINS, TORCH, python_of

SIDES = Path(__file__).parent / "sides"
PACKAGE = Path(__file__).parents[1] / "src" / "tunesmith"
ANSWER = "ANSWER "
"""As in `sides/lab.py`."""
PROTOCOL = 1
"""To be raised when a trial comes to mean something else: stored results are then made anew."""
NUM_ROWS = 64
MAX_TOKENS = 128
LAST_TRIAL_SECONDS = 60.0
LONGEST = 300
"""Characters of a message that are kept."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A system under fault.

    Attributes:
        name: As given to `--systems`.
        title: For people.
        script: In `sides/`.
        environment: File in `pins/` that its environment is made from; None for this one.
    """

    name: str
    title: str
    script: str
    environment: str | None = None


SYSTEMS = {
    subject.name: subject
    for subject in (
        Subject("hf-trainer", "Hugging Face Trainer", "lab_trainer.py", "transformers"),
        Subject("trl", "TRL SFTTrainer", "lab_trainer.py", "trl"),
        Subject("tunesmith", "Tunesmith", "lab_tunesmith.py"),
    )
}


def made_with(system: str) -> str:
    """A short hash of what decides a trial's result: the packages, or Tunesmith's own source."""
    total = hashlib.sha256(f"{PROTOCOL} {TORCH}".encode())
    environment = SYSTEMS[system].environment
    if environment is not None:
        total.update((PINS / f"{environment}.txt").read_bytes())
        return total.hexdigest()[:16]
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.[ch]")]):
        total.update(f"{path.relative_to(PACKAGE)} ".encode() + path.read_bytes())
    return total.hexdigest()[:16]


def make_material(work: Path) -> dict[str, str]:
    """The base and the rows that every system trains on, made once in `work`."""
    from transformers.utils import logging

    from benchmarks.rows import encode
    from tunesmith.data.row import Message
    from tunesmith.data.template import Renderer
    from tunesmith.testing.tiny import byte_tokenizer, tiny_base

    base, rows = work / "base", work / "rows.jsonl"
    if not rows.is_file():
        logging.disable_progress_bar()
        tiny_base(base)
        tokenizer = byte_tokenizer()
        renderer = Renderer(tokenizer, frozenset([tokenizer.eos_token_id]), max_tokens=MAX_TOKENS)
        lines = [
            encode(
                (
                    Message("user", f"say {'x' * (i % 5)}"),
                    Message("assistant", f"{i}" * (i % 3 + 1)),
                ),
                renderer,
            )
            for i in range(NUM_ROWS)
        ]
        rows.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return {"base": str(base), "rows": str(rows)}


class Warm:
    """The process of one system, for the time of a `with` block.

    Attributes:
        facts: What the undisturbed runs of the system are like, with its versions.
    """

    def __init__(
        self, subject: Subject, material: dict[str, str], work: Path, tell: Callable[[str], None]
    ) -> None:
        work.mkdir()
        self._work = work
        job = {**material, "system": subject.name, "work": str(work)}
        python = python_of(subject.environment, tell)
        command = [str(python), "-W", "ignore", str(SIDES / subject.script), json.dumps(job)]
        with (work / "stderr.log").open("w") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_variables(subject, work),
                text=True,
            )
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> "Warm":
        try:
            self.facts = self._ask({"fault": "none"})
        except BaseException:
            self.__exit__()
            raise
        self.facts.pop("said")
        return self

    def __exit__(self, *exception: object) -> None:
        # The end of its input ends it, after the trial at hand, whose disk it takes off.
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(LAST_TRIAL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def trial(self, fault: str, index: int) -> dict[str, Any]:
        """What came of one trial."""
        return self._short(self._ask({"fault": fault, "index": index}))

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self._process.stdin.write(f"{json.dumps(question)}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        last = (self._work / "stderr.log").read_text(encoding="utf-8")[-2000:]
        raise RuntimeError(f"the process of {self._work.name} ended at {question}\n{last}")

    def _short(self, value: Any) -> Any:
        """Without the paths of this machine, and with messages cut."""
        if isinstance(value, str):
            return value.replace(str(self._work), "RUNS")[:LONGEST]
        if isinstance(value, list):
            return [self._short(part) for part in value]
        if isinstance(value, dict):
            return {key: self._short(part) for key, part in value.items()}
        return value


def _variables(subject: Subject, work: Path) -> dict[str, str]:
    """The environment of the process: offline, one thread, caches of its own."""
    ours = dict(os.environ)
    if subject.environment is None:
        ours["PYTHONPATH"] = str(PACKAGE.parent)
        ours["TUNESMITH_HOME"] = str(work / "home")
    else:
        ours.pop("PYTHONPATH", None)
    return {
        **ours,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled",
    }
