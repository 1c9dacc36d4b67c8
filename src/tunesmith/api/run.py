"""A run, seen from Python; and the verbs that work on one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tunesmith.api.answer import Messages, Speaker, open_speaker
from tunesmith.api.export import Wish, export_run
from tunesmith.errors import CommandError
from tunesmith.runs.folder import RunFolder


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

    def export(
        self,
        to: str = "merged",
        path: str | Path | None = None,
        stored: str | None = None,
        scale: float = 1.0,
    ) -> Path:
        """Write weights for another program.

        Args:
            to: `merged`, a whole model in safetensors; `adapter`, PEFT's format; `gguf`, one file
                for llama.cpp; or `ollama`, that file with a Modelfile.
            path: New or empty folder; `export-<to>` in the run folder when left out.
            stored: `f32`, `f16`, `bf16` or, for GGUF, `q8_0`; left out, the usual one of the form.
            scale: Factor on the update of an adapter: W + scale s B A for LoRA.

        Returns:
            The folder. It holds `certificate.json`: how far it is from the trained model.

        Raises:
            CommandError: An unknown format, a folder in use, or nothing to export.
            ModelError: A model or tokenizer that the format cannot hold.
            RunError: The export answers otherwise; nothing is left of it.
        """
        return export_run(self.folder, Wish(to, path, stored, scale))


def export(
    run: str | Path,
    to: str = "merged",
    path: str | Path | None = None,
    stored: str | None = None,
    scale: float = 1.0,
) -> Path:
    """`Run.export` of the run in a folder."""
    return Run.open(run).export(to, path, stored, scale)


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
