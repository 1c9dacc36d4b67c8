"""Builds the parts of a run from a resolved recipe, one function a part."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from tunesmith.adapters import base as adapters
from tunesmith.adapters.base import Attached, Material
from tunesmith.api.resolve import device, frozen_dtype, weights_dtype
from tunesmith.config.home import home
from tunesmith.data.contract import Check, check, require
from tunesmith.data.example import Batch
from tunesmith.data.loader import Loader
from tunesmith.data.order import Schedule
from tunesmith.data.planner import Layout
from tunesmith.data.prepared import Prepared
from tunesmith.data.section import Source
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.data.template import Renderer
from tunesmith.engine import optimizer
from tunesmith.engine.fit import Trial
from tunesmith.engine.guard import Guard
from tunesmith.engine.parts import Parts
from tunesmith.engine.precision import DTYPES
from tunesmith.engine.saving import num_bytes
from tunesmith.engine.schedule import LearningRate
from tunesmith.engine.watch import Watch
from tunesmith.errors import RecipeError
from tunesmith.methods import base as methods
from tunesmith.methods.base import LossSum
from tunesmith.models import fast
from tunesmith.models.added_tokens import add_tokens
from tunesmith.models.base import Base
from tunesmith.models.load import load
from tunesmith.models.narrow import narrow_frozen
from tunesmith.models.policy import Policy
from tunesmith.models.published import published
from tunesmith.models.resolve import resolve as find
from tunesmith.recipe import Recipe
from tunesmith.runs import room
from tunesmith.runs.events import Event
from tunesmith.runs.room import Room

BEST_TOKENS = 1024
"""Tokens of a forward pass beyond which a CPU gains no speed: three LoRA steps of eight Alpaca rows
(4,640 tokens) took 9.7 s of processor time in passes of 512, 8.9 s of 1,024 and 9.2 s as a whole,
at peaks of 1.6, 1.7 and 2.1 GiB (benchmarks/pass_tokens.py)."""
START_ROWS = 32
"""Rows that a start computed from rows looks at."""
BASE_PASSES = 2
"""Times as many where the base is trained: there each pass adds to the gradient of every weight,
about 0.3 s of processor time for the starter beside 4 s of a step."""


@dataclass(frozen=True)
class Rows:
    """The user's rows as examples, checked."""

    renderer: Renderer
    train: Prepared
    heldout: Prepared | None
    checks: list[Check]

    @property
    def sha256(self) -> dict[str, str]:
        """SHA-256 of every data file by path."""
        parts = [self.train] + ([self.heldout] if self.heldout else [])
        return {path: digest for part in parts for path, digest in part.counts.sha256.items()}


@dataclass(frozen=True)
class Learner:
    """A model with its adapter, ready to train."""

    adapter: ModuleType
    attached: Attached
    policy: Policy


def seed_everything(seed: int) -> None:
    """Seed every generator that a part might draw from while it is built."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def build_base(recipe: Recipe) -> Base:
    """Find and load the base; fp32 where the adapter trains the base's own weights.

    Raises:
        RecipeError: Quantised weights that the adapter would have to train or that the device
            cannot multiply by, or longer examples than the base can see.
    """
    _require_quantizable(recipe)
    source = find(recipe.model.base, recipe.model.revision)
    base = load(source, weights_dtype(recipe), recipe.model.quantize)
    add_tokens(base, adapters.added_tokens(recipe.adapter))
    longest = base.model.config.max_position_embeddings
    if recipe.data.max_tokens > longest:
        raise RecipeError(
            "data.max_tokens",
            got=str(recipe.data.max_tokens),
            expected=f"at most {longest}, what this base can see at once",
        )
    base.model.to(device())
    return base


def _require_quantizable(recipe: Recipe) -> None:
    kind, adapter = recipe.model.quantize, recipe.adapter
    if kind != "none" and adapters.needs_plain_base(adapter):
        does = "changes" if adapters.changes_base(adapter) else "computes with"
        does = "trains" if adapters.load(adapter.name).TRAINS_BASE else does
        raise RecipeError(
            "model.quantize",
            got=f"{kind} with adapter.name: {adapter.name}, which {does} the base's own weights",
            expected="none",
            hint="quantised weights stay as they are; train beside them with adapter.name: lora",
        )
    if kind == "int8" and device().type != "cpu":
        raise RecipeError(
            "model.quantize",
            got=f"int8 on {device().type}",
            expected="none or nf4: the products of int8 are written for processors",
        )


def build_rows(recipe: Recipe, base: Base) -> Rows:
    """Turn the rows into examples, and check the token contract.

    Raises:
        DataError: A bad row, an over-long row, or a broken contract.
    """
    section = recipe.data
    renderer = Renderer(
        base.tokenizer, base.stop_ids, section.train_on, section.max_tokens, section.overlong
    )
    encoder = methods.load(recipe.method.name).encoder(renderer, recipe.method)
    options = PrepareOptions(
        section.max_tokens, section.overlong, section.on_bad_row, section.train_on
    )

    def examples(sources: tuple[Source, ...]) -> Prepared:
        return prepare(sources, encoder, options, home() / "examples")

    train = examples(section.train_sources)
    heldout = examples(section.eval_sources) if section.eval_sources else None
    checks = check(train, heldout, renderer)
    require(checks)
    return Rows(renderer, train, heldout, checks)


def build_learner(recipe: Recipe, base: Base, rows: Rows | None = None) -> Learner:
    """Attach the adapter and choose the compute paths.

    Args:
        recipe: Resolved.
        base: Its base.
        rows: What a start may look at; without them, one that does is refused.
    """
    adapter = adapters.load(recipe.adapter.name)
    material = build_material(base, rows)
    attached = adapters.attach(recipe.adapter, base.model, recipe.train.seed, material)
    if adapter.FOLDER == "model":
        narrow_frozen(attached.model, _frozen_beside_trained(recipe, attached))
    if recipe.train.kernels == "fast":
        fast.lay_over(attached.model)
    if recipe.model.gradient_checkpointing:
        attached.model.activation_checkpointing_enable({"use_reentrant": False})
    precision = DTYPES[recipe.train.precision]
    return Learner(adapter, attached, Policy(attached.model, recipe.train.kernels, precision))


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


def best_tokens(recipe: Recipe) -> int | None:
    """Tokens of a forward pass beyond which this device gains nothing; None where it always does.

    A GPU is filled by larger passes, so there the recipe's limits alone hold.
    """
    if device().type != "cpu":
        return None
    return BEST_TOKENS * (BASE_PASSES if adapters.load(recipe.adapter.name).TRAINS_BASE else 1)


def build_schedule(recipe: Recipe, rows: Rows) -> Schedule:
    """Which examples come in which step."""
    train = recipe.train
    return Schedule(
        lengths=rows.train.lengths,
        rows_per_file=rows.train.rows_per_file,
        weights=rows.train.weights,
        seed=train.seed,
        batch_rows=train.batch_rows,
        batch_tokens=train.batch_tokens,
        accumulate=train.accumulate,
        epochs=train.epochs,
        steps=train.steps,
    )


def build_loader(recipe: Recipe, rows: Rows) -> Loader:
    """The training batches of every step."""
    train = recipe.train
    layout = Layout(recipe.data.packing, train.batch_rows, train.batch_tokens, best_tokens(recipe))
    return Loader(rows.train, build_schedule(recipe, rows), layout, pad_id(rows.renderer))


def build_optimizer(recipe: Recipe, learner: Learner) -> Optimizer:
    """The optimizer over the trained parameters."""
    train = recipe.train
    return optimizer.build(
        train.optimizer,
        learner.attached.trained.values(),
        train.learning_rate,
        train.weight_decay,
        train.optimizer_options,
    )


def build_loss(recipe: Recipe, learner: Learner) -> Callable[[Batch], LossSum]:
    """The method's loss of one batch, with policy and keys filled in."""
    method = methods.load(recipe.method.name)
    return partial(method.loss, learner.policy, config=recipe.method)


def build_trial(recipe: Recipe, learner: Learner) -> Trial:
    """What runs passes and steps to measure them, with an optimizer to throw away."""
    return Trial(
        learner.attached.model,
        build_loss(recipe, learner),
        build_optimizer(recipe, learner),
        list(learner.attached.trained.values()),
        recipe.train.clip,
        device(),
    )


def build_room(recipe: Recipe, learner: Learner, trial: Trial, num_steps: int) -> Room:
    """What the run will write, by a trial that has run: its optimizer has all its moments."""
    trained = learner.attached.trained
    every, evaluated = recipe.checkpoint.every, recipe.evaluate.every
    saves = num_steps // every + (num_steps // evaluated if evaluated else 0) + 1
    return room.measure(
        Path(recipe.output.dir),
        num_bytes(trained, trial.optimizer),
        # Besides those that are kept: the best one, and the one that is being written.
        min(recipe.checkpoint.keep + 2, saves),
        sum(parameter.numel() * parameter.element_size() for parameter in trained.values()),
    )


def pad_id(renderer: Renderer) -> int:
    """A token to fill padded batches with; it is masked, so any will do where there is none."""
    pad = renderer.tokenizer.pad_token_id
    return 0 if pad is None else pad


def build_rate(recipe: Recipe, num_steps: int) -> LearningRate:
    """The learning rate of every step."""
    train = recipe.train
    return LearningRate(train.learning_rate, train.schedule, train.warmup, num_steps)


def build_parts(
    recipe: Recipe, learner: Learner, loader: Loader, notice: Callable[[Event], None]
) -> Parts:
    """What the loop runs with; it measures, saves and stops only once it is told how."""
    parameters = list(learner.attached.trained.values())
    return Parts(
        model=learner.attached.model,
        loss=build_loss(recipe, learner),
        loader=loader,
        parameters=parameters,
        optimizer=build_optimizer(recipe, learner),
        learning_rate=build_rate(recipe, loader.num_steps),
        clip=recipe.train.clip,
        seed=recipe.train.seed,
        device=device(),
        notice=notice,
        evaluate=lambda step: False,
        save=lambda step, must: None,
        stop=lambda: False,
        guard=Guard(loader.num_steps, outliers=recipe.train.guard),
        watch=Watch(parameters),
    )
