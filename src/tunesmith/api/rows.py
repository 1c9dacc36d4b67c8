"""The rows of a run as examples, checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunesmith.api.combined import require_no_writing
from tunesmith.api.replay import Replayed, replay_source
from tunesmith.config.home import home
from tunesmith.data.contract import Check, check, check_read, require
from tunesmith.data.prepared import Prepared
from tunesmith.data.section import Source
from tunesmith.data.split import Part
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.data.template import Renderer
from tunesmith.methods import base as methods
from tunesmith.models.base import Base
from tunesmith.models.heads import pad_of
from tunesmith.recipe import Recipe
from tunesmith.runs.events import Event


@dataclass(frozen=True)
class Rows:
    """The user's rows as examples, checked."""

    renderer: Renderer
    train: Prepared
    heldout: Prepared | None
    checks: list[Check]
    replayed: Replayed | None = None
    """Rows of `train` that come last and are replayed."""

    @property
    def rows_per_file(self) -> tuple[int, ...]:
        """Rows of each training file, without what is replayed."""
        counts = self.train.rows_per_file
        return counts[:-1] if self.replayed else counts

    @property
    def num_train(self) -> int:
        """Rows to train on, without what is replayed."""
        return sum(self.rows_per_file)

    @property
    def sha256(self) -> dict[str, str]:
        """SHA-256 of every data file by path."""
        parts = [self.train] + ([self.heldout] if self.heldout else [])
        return {path: digest for part in parts for path, digest in part.counts.sha256.items()}


def build_rows(
    recipe: Recipe, base: Base, notice: Callable[[Event], None] = lambda event: None
) -> Rows:
    """Turn the rows into examples, and check the token contract.

    The base is asked for what it is to replay, so nothing may be trained yet.

    Raises:
        DataError: A bad row, an over-long row, or a broken contract.
        RecipeError: What needs a model that writes, for one that does not.
    """
    section = recipe.data
    renderer = Renderer(
        base.tokenizer, base.stop_ids, section.train_on, section.max_tokens, section.overlong
    )
    encoder = methods.load(recipe.method.name).encoder(renderer, recipe.method)
    head = methods.head_of(recipe.method)
    if head:
        require_no_writing(recipe)
    replay = replay_source(recipe, base, renderer, encoder, notice)

    def examples(sources: Sequence[Source], heldout: bool) -> Prepared:
        options = PrepareOptions(
            section.max_tokens,
            section.overlong,
            section.on_bad_row,
            section.train_on,
            share and Part(share, heldout, len(section.train_sources)),
        )
        return prepare(sources, encoder, options, home() / "examples")

    share, sources = section.eval_share, section.train_sources
    train = examples((*sources, replay) if replay else sources, False)
    held = sources if share else section.eval_sources
    heldout = examples(held, True) if held else None
    if head:
        checks = check_read(train, heldout, renderer, pad_of(base.tokenizer))
    else:
        checks = check(train, heldout, renderer)
    require(checks)
    replayed = replay and Replayed(section.replay.share, train.rows_per_file[-1], replay.path)
    return Rows(renderer, train, heldout, checks, replayed)


def pad_id(renderer: Renderer) -> int:
    """A token to fill padded batches with; it is masked, so any will do where there is none."""
    pad = renderer.tokenizer.pad_token_id
    return 0 if pad is None else pad
