"""The recipe's `data` section."""

from typing import Literal

from pydantic import Field

from tunesmith.config.section import Section


class Source(Section):
    """One data file and how it takes part."""

    path: str
    """A .jsonl, .json, .csv, .parquet, .txt or .md file, or a folder of .txt and .md files."""
    weight: float = Field(1.0, gt=0)
    """Times each row is seen per epoch; a fraction is a share of them, drawn anew each epoch."""
    format: str = "auto"
    """Row shape: auto finds it by looking, or one of chat, completion, alpaca, sharegpt, text."""


class DataSection(Section):
    """Which rows are trained on, and what happens to the awkward ones."""

    train: str | list[Source]
    """A path, or a list of {path, weight, format}."""
    eval: str | list[Source] | None = None
    """Held-out rows for the loss; never trained on."""
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

    @property
    def train_sources(self) -> tuple[Source, ...]:
        """The training files, in order."""
        return _sources(self.train)

    @property
    def eval_sources(self) -> tuple[Source, ...]:
        """The held-out files, in order; empty without `data.eval`."""
        return () if self.eval is None else _sources(self.eval)


def _sources(value: str | list[Source]) -> tuple[Source, ...]:
    return (Source(path=value),) if isinstance(value, str) else tuple(value)
