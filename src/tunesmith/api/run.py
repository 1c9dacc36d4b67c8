"""A run, seen from Python; and the verbs that work on one."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tunesmith.api.answer import Messages, Speaker, open_speaker
from tunesmith.api.resolve import weights_dtype
from tunesmith.config.yaml_file import read_yaml
from tunesmith.errors import CommandError
from tunesmith.export.merge import merge, require_free
from tunesmith.export.reload import Holding
from tunesmith.models.quantize import NONE
from tunesmith.recipe import from_dict
from tunesmith.runs.folder import RunFolder

PROMPTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three colours.",
    "What is 12 plus 30?",
)
"""Asked of adapter and merged model when the run has no rows of its own to show."""


@dataclass(frozen=True)
class Run:
    """One execution of a recipe, and its folder."""

    folder: RunFolder

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """The run in the folder `path`; CommandError when there is none."""
        return cls(RunFolder.open(Path(path)))

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def report(self) -> dict[str, Any]:
        """The content of `report.json`.

        Raises:
            CommandError: The run has not come to an end.
        """
        if not self.folder.report_json.is_file():
            raise CommandError(
                str(self.path),
                got="a run without a report",
                expected="a run that came to its end",
                hint=f"tunesmith resume {self.path}",
            )
        return json.loads(self.folder.report_json.read_text(encoding="utf-8"))

    @property
    def status(self) -> str:
        """Succeeded, failed or interrupted, as the report says."""
        return self.report["status"]

    @cached_property
    def speaker(self) -> Speaker:
        """The trained model in memory, loaded when first asked for."""
        return open_speaker(str(self.path))

    def generate(
        self, prompts: str | Sequence[str | Messages], max_new_tokens: int = 256
    ) -> str | list[str]:
        """Greedy answers of the trained model.

        Args:
            prompts: One user message, or a list of user messages or whole conversations.
            max_new_tokens: Most tokens of one answer.

        Returns:
            One text for one message, a list for a list.
        """
        return _answer(self.speaker, prompts, max_new_tokens)

    def export(self, to: str = "merged", path: str | Path | None = None) -> Path:
        """Write weights for another program.

        Args:
            to: `merged`, a whole model in safetensors; or `adapter`, PEFT's format.
            path: New or empty folder; `export-<to>` in the run folder when left out.

        Returns:
            The folder. A merged one holds `certificate.json`: it answered as the adapter does.

        Raises:
            CommandError: An unknown format, a folder in use, or nothing to export.
        """
        if to not in ("merged", "adapter"):
            raise CommandError("--to", got=repr(to), expected="merged or adapter")
        target = Path(path) if path else self.path / f"export-{to}"
        source = self.folder.adapter if self.folder.adapter.is_dir() else self.folder.model
        if not source.is_dir():
            raise CommandError(
                str(self.path),
                got="a run that has exported nothing",
                expected="a run that succeeded",
                hint=f"tunesmith resume {self.path}",
            )
        if to == "merged" and source == self.folder.adapter:
            merge(source, target, self._prompts(), self._quantized())
            return target
        if to == "adapter" and source == self.folder.model:
            raise CommandError("--to", got="adapter", expected="merged, for a full fine-tuning")
        require_free(target)
        shutil.copytree(source, target, dirs_exist_ok=True)
        return target

    def _quantized(self) -> Holding | None:
        """How the base was quantised in training; None if it was not."""
        recipe = from_dict(read_yaml(self.folder.recipe), str(self.folder.recipe))
        if recipe.model.quantize == NONE:
            return None
        return Holding(weights_dtype(recipe), recipe.model.quantize)

    def _prompts(self) -> list[list[int]]:
        """Token ids of held-out prompts, or of a few general questions."""
        rows = json.loads(self.folder.samples.read_text()) if self.folder.samples.is_file() else []
        asked = [row["prompt"] for row in rows] or list(PROMPTS)
        opening = self.speaker.opening()
        return [
            self.speaker.ids([*opening, {"role": "user", "content": text}]) for text in asked[:4]
        ]


def export(run: str | Path, to: str = "merged", path: str | Path | None = None) -> Path:
    """`Run.export` of the run in a folder."""
    return Run.open(run).export(to, path)


def generate(
    name: str, prompts: str | Sequence[str | Messages], max_new_tokens: int = 256
) -> str | list[str]:
    """Greedy answers of a run, or of a base by its name."""
    return _answer(open_speaker(name), prompts, max_new_tokens)


def _answer(
    speaker: Speaker, prompts: str | Sequence[str | Messages], max_new_tokens: int
) -> str | list[str]:
    """A text alone is a user message, behind the system message that the run was trained with."""
    several = [prompts] if isinstance(prompts, str) else list(prompts)
    asked = [
        [*speaker.opening(), {"role": "user", "content": prompt}]
        if isinstance(prompt, str)
        else prompt
        for prompt in several
    ]
    answers = speaker.answer(asked, max_new_tokens)
    return answers[0] if isinstance(prompts, str) else answers
