"""The model of a run: its base, with a head and an adapter where the recipe asks for them."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.adapters import base as adapters
from tunesmith.adapters.base import Attached, Material, under, virtual_tokens
from tunesmith.api.combined import require_quantizable
from tunesmith.api.companion import build_companion
from tunesmith.api.resolve import device, frozen_dtype, weights_dtype
from tunesmith.api.rows import Rows
from tunesmith.engine.precision import DTYPES
from tunesmith.errors import RecipeError
from tunesmith.methods import base as methods
from tunesmith.methods.base import Companion
from tunesmith.models import fast
from tunesmith.models.added_tokens import add_tokens
from tunesmith.models.base import Base
from tunesmith.models.heads import put
from tunesmith.models.load import load
from tunesmith.models.mapped import let_go
from tunesmith.models.narrow import narrow_frozen
from tunesmith.models.policy import Policy
from tunesmith.models.published import published
from tunesmith.models.resolve import resolve as find
from tunesmith.recipe import Recipe

START_ROWS = 32
"""Rows that a start computed from rows looks at."""
COMPANION = "companion."
"""Opens the names of parameters that a method trains beside the model."""


@dataclass(frozen=True)
class Learner:
    """A model with its adapter, ready to train."""

    adapter: ModuleType
    attached: Attached
    policy: Policy
    companion: Companion | None = None
    """What the method trains beside it; saved, but not exported."""

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """All trained parameters by name: those of the adapter, then the companion's."""
        beside = self.companion.module.named_parameters() if self.companion else ()
        return self.attached.trained | {COMPANION + name: p for name, p in beside}

    def as_base(self) -> AbstractContextManager[Any]:
        """For the time of the block the model answers as the base does.

        Where the base itself is trained, that is so at the start alone.
        """
        disabled = self.attached.disabled
        return nullcontext() if disabled is None else disabled()

    def as_before(self) -> AbstractContextManager[Any]:
        """For the time of the block the model answers as what the run is compared with.

        That is the base, for virtual tokens change answers from the start on; or what an adapter
        that is trained on had made of it.
        """
        return nullcontext() if self.attached.continued else self.as_base()


def build_base(recipe: Recipe) -> Base:
    """Find and load the base; fp32 where the adapter trains the base's own weights.

    Raises:
        RecipeError: Quantised weights that the adapter would have to train or that the device
            cannot multiply by, or longer examples than the base can see.
    """
    require_quantizable(recipe)
    source = find(recipe.model.base, recipe.model.revision)
    base = load(source, weights_dtype(recipe), recipe.model.quantize)
    add_tokens(base, adapters.added_tokens(recipe.adapter))
    longest, ahead = base.model.config.max_position_embeddings, virtual_tokens(recipe.adapter)
    if recipe.data.max_tokens + ahead > longest:
        beside = f"; {ahead} of its {longest} positions are for virtual tokens" if ahead else ""
        raise RecipeError(
            "data.max_tokens",
            got=str(recipe.data.max_tokens),
            expected=f"at most {longest - ahead}, what this base can see at once{beside}",
        )
    base.model.to(device())
    return base


def build_learner(recipe: Recipe, base: Base, rows: Rows | None = None) -> Learner:
    """Put the method's head, attach the adapter and choose the compute paths.

    Args:
        recipe: Resolved.
        base: Its base.
        rows: What a start may look at; without them, one that does is refused.
    """
    adapter, head = adapters.load(recipe.adapter.name), methods.head_of(recipe.method)
    model, seed = base.model, recipe.train.seed
    if head:
        model = put(base.model, head, base.tokenizer, seed)
    attached = adapters.attach(recipe.adapter, model, seed, build_material(base, rows))
    if head:
        attached = under(attached, head)
    if adapter.FOLDER == "model":
        narrow_frozen(attached.model, _frozen_beside_trained(recipe, attached))
    if recipe.train.kernels == "fast":
        fast.lay_over(attached.model)
        let_go(attached.model)
    if recipe.model.gradient_checkpointing:
        attached.model.activation_checkpointing_enable({"use_reentrant": False})
    precision = DTYPES[recipe.train.precision]
    noise = recipe.train.noise
    policy = Policy(attached.model, recipe.train.kernels, precision, noise, base.model)
    companion = build_companion(recipe, attached)
    policy.companion = companion and companion.module
    return Learner(adapter, attached, policy, companion)


def build_material(base: Base, rows: Rows | None) -> Material:
    """What the start of an adapter may be computed from."""

    def shown() -> list[Tensor]:
        train = [] if rows is None else rows.train
        return [
            torch.from_numpy(train[i].input_ids.astype(np.int64))
            for i in range(min(START_ROWS, len(train)))
        ]

    return Material(
        lambda text: base.tokenizer(text, add_special_tokens=False)["input_ids"],
        shown,
        partial(published, base.source),
        base.added,
    )


def _frozen_beside_trained(recipe: Recipe, attached: Attached) -> torch.dtype:
    """The type of weights that stay frozen in a base that is partly trained.

    Raises:
        RecipeError: Narrower than the products, whose type trained weights would keep.
    """
    dtype = frozen_dtype(recipe)
    is_whole = len(attached.trained) == len(list(attached.model.parameters()))
    if not is_whole and dtype.itemsize < DTYPES[recipe.train.precision].itemsize:
        raise RecipeError(
            "model.dtype",
            got=f"{recipe.model.dtype} beside trained weights, with train.precision: fp32",
            expected="model.dtype: auto, or train.precision: bf16",
        )
    return dtype
