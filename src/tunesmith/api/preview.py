"""`preview`: rows as the model sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.api.learner import build_base
from tunesmith.api.resolve import require_paths, resolve
from tunesmith.api.rows import build_rows
from tunesmith.recipe import Recipe, read


@dataclass(frozen=True, slots=True)
class Preview:
    """One example in pieces.

    Attributes:
        source: Data file.
        number: Number of the row in it.
        pieces: Text in order, each piece with whether it is trained.
        num_tokens: All of them.
        num_trained: The trained ones.
        special_tokens: Texts that are one special token each.
    """

    source: str
    number: int
    pieces: list[tuple[str, bool]]
    num_tokens: int
    num_trained: int
    special_tokens: tuple[str, ...]


def preview(
    recipe: Recipe | str | Path, overrides: Sequence[str] = (), rows: int = 3, first: int = 1
) -> list[Preview]:
    """The examples `first` to `first + rows - 1` of the training rows, as training would have them.

    Raises:
        TunesmithError: As `train` would before its first step: every row is read and checked.
    """
    if not isinstance(recipe, Recipe):
        recipe = read(recipe, overrides)
    recipe = resolve(recipe)
    require_paths(recipe)
    base = build_base(recipe)
    built = build_rows(recipe, base)
    special = tuple(dict.fromkeys(str(token) for token in base.tokenizer.all_special_tokens))
    last = min(first - 1 + rows, len(built.train))
    shown = []
    for index in range(first - 1, last):
        example = built.train[index]
        shown.append(
            Preview(
                example.source,
                example.row,
                built.renderer.explain(example),
                len(example),
                int(example.trained.sum()),
                special,
            )
        )
    return shown
