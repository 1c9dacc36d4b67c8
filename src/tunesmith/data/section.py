"""The recipe's `data` section."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tunesmith.config.section import Section
from tunesmith.data.phrasing import check_phrasing


class Source(Section):
    """One data file and how it takes part."""

    path: str
    """A .jsonl, .json, .csv, .parquet, .txt or .md file, or a folder of .txt and .md files."""
    name: str | None = None
    """What figures of it are called; by default the name of the file without its ending."""
    weight: float = Field(1.0, gt=0)
    """Times each row is seen per epoch; a fraction is a share of them, drawn anew each epoch."""
    format: str = "auto"
    """Row shape: auto finds it by looking, or one of chat, completion, alpaca, sharegpt, text."""
    columns: dict[str, str] = {}
    """Keys of the shape and what the file calls them, such as {prompt: question}."""
    phrasings: list[str] = []
    """Prompts with a {key} of the row in braces, such as "Translate: {text}". They make the row's
    prompt, and each time that a row comes one of them is drawn, by the seed, epoch and position."""

    @field_validator("phrasings")
    @classmethod
    def _check_phrasings(cls, value: list[str]) -> list[str]:
        for phrasing in value:
            check_phrasing(phrasing)
        return value

    @model_validator(mode="after")
    def _check_format(self) -> "Source":
        if self.phrasings and self.format not in ("auto", "completion"):
            raise ValueError("phrasings, which make a prompt, with the format completion")
        return self


class Mix(Section):
    """How often each of several files comes, by its size: Raffel et al. 2020 (arXiv:1910.10683)."""

    temperature: float = Field(1.0, ge=1)
    """A file's share goes with rows ** (1 / temperature): above 1 evens them out."""
    cap: int | None = Field(None, ge=1)
    """Rows beyond which a file counts as no larger."""


class Replay(Section):
    """General rows among those of the task, so that less is forgotten."""

    share: float = Field(gt=0, lt=1)
    """Of the rows of every step."""
    from_: str = Field("base", alias="from")
    """A data file; or base, for answers to general prompts that the base gives once, before
    training, and that are kept."""
    answers: int = Field(192, ge=1)
    """How many the base gives, with `from: base`."""
    max_new_tokens: int = Field(128, ge=1)
    """Of one of them; a longer answer is not used."""


class DataSection(Section):
    """Which rows are trained on, and what happens to the awkward ones."""

    train: str | list[Source]
    """A path, or a list of {path, weight, format, ...}."""
    eval: str | float | list[Source] | None = None
    """Held-out rows for the loss, never trained on: a path, a list, or a share of the training rows
    such as 0.05. Which rows these are depends on each row alone, so others may come and go."""
    max_tokens: int = Field(2048, ge=8)
    """Longest example, in tokens."""
    overlong: Literal["error", "drop", "truncate"] = "error"
    """What happens to a row with more than max_tokens."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What happens to a row that cannot be read; skipped rows are counted and listed."""
    train_on: Literal["assistant", "last", "all"] = "assistant"
    """Which tokens carry the loss: all assistant turns, the last one, or everything."""
    packing: bool = True
    """Lay examples end to end without padding, blind to each other."""
    mix: Mix | None = None
    """How often the files of `train` come, beside their weights."""
    replay: Replay | None = None
    """General rows among those of the task."""

    @field_validator("eval", mode="before")
    @classmethod
    def _check_share(cls, value: Any) -> Any:
        if isinstance(value, dict) and set(value) == {"share"}:
            value = value["share"]
        if isinstance(value, int | float) and not 0 < value < 1:
            raise ValueError("a path, a list of paths, or a share between 0 and 1")
        return value

    @field_validator("train", "eval")
    @classmethod
    def _check_names(cls, value: Any) -> Any:
        given = [source.name for source in value if source.name] if isinstance(value, list) else []
        if len(set(given)) < len(given):
            raise ValueError("a name of its own for each file")
        return value

    @property
    def train_sources(self) -> tuple[Source, ...]:
        """The training files, in order."""
        return _sources(self.train)

    @property
    def eval_sources(self) -> tuple[Source, ...]:
        """The held-out files, in order; empty where `data.eval` names none."""
        return () if self.eval is None or self.eval_share else _sources(self.eval)

    @property
    def eval_share(self) -> float | None:
        """The share of the training rows that is held out; None where there is none."""
        return self.eval if isinstance(self.eval, float) else None


def names_of(sources: Sequence[Source]) -> list[str]:
    """What figures of each file are called: names given, else of files, else paths that differ."""
    names = [source.name or Path(source.path).stem for source in sources]
    return [
        source.path if names.count(name) > 1 and not source.name else name
        for source, name in zip(sources, names, strict=True)
    ]


def _sources(value: str | list[Source]) -> tuple[Source, ...]:
    return (Source(path=value),) if isinstance(value, str) else tuple(value)
