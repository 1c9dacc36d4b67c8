"""Builds the parts of a run from a resolved recipe, one function a part."""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tunesmith.adapters import base as adapters
from tunesmith.adapters.base import Attached, Material, under, virtual_tokens
from tunesmith.api import by_source
from tunesmith.api.combined import require_no_writing, require_quantizable, require_rows
from tunesmith.api.companion import beside, build_companion
from tunesmith.api.replay import Replayed, replay_source
from tunesmith.api.resolve import device, frozen_dtype, weights_dtype
from tunesmith.config.home import home
from tunesmith.data.contract import Check, check, check_read, require
from tunesmith.data.example import Batch
from tunesmith.data.loader import Loader
from tunesmith.data.mixing import evened
from tunesmith.data.order import Schedule
from tunesmith.data.planner import Layout
from tunesmith.data.prepared import Prepared
from tunesmith.data.section import Source
from tunesmith.data.split import Part
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.data.template import Renderer
from tunesmith.engine import optimizer as optimizers
from tunesmith.engine.ema import Ema
from tunesmith.engine.fit import Trial
from tunesmith.engine.groups import Settings, parameter_groups
from tunesmith.engine.guard import Guard
from tunesmith.engine.measured import Measured
from tunesmith.engine.near_base import NearBase
from tunesmith.engine.parts import Parts
from tunesmith.engine.precision import DTYPES
from tunesmith.engine.rollouts.loader import Rollouts, Way
from tunesmith.engine.rollouts.told import telling
from tunesmith.engine.saving import num_bytes
from tunesmith.engine.schedule import LearningRate
from tunesmith.engine.unfreeze import Unfreezing
from tunesmith.engine.watch import Watch
from tunesmith.errors import RecipeError
from tunesmith.methods import base as methods
from tunesmith.methods.base import Companion, LossSum
from tunesmith.models import fast
from tunesmith.models.added_tokens import add_tokens
from tunesmith.models.base import Base
from tunesmith.models.heads import pad_of, put
from tunesmith.models.load import load
from tunesmith.models.mapped import let_go
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

SAMPLER = "sampler"
"""In the NEEDS of a method whose answers the model draws itself."""
COMPANION = "companion."
"""Opens the names of parameters that a method trains beside the model."""


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


def best_tokens(recipe: Recipe) -> int | None:
    """Tokens of a forward pass beyond which this device gains nothing; None where it always does.

    A GPU is filled by larger passes, so there the recipe's limits alone hold.
    """
    if device().type != "cpu":
        return None
    return BEST_TOKENS * (BASE_PASSES if adapters.load(recipe.adapter.name).TRAINS_BASE else 1)


def build_weights(recipe: Recipe, rows: Rows) -> tuple[float, ...]:
    """How often the rows of each training file come in an epoch."""
    weights, mix = tuple(source.weight for source in recipe.data.train_sources), recipe.data.mix
    return evened(rows.rows_per_file, weights, mix.temperature, mix.cap) if mix else weights


def build_schedule(recipe: Recipe, rows: Rows) -> Schedule:
    """Which examples come in which step."""
    train, replayed = recipe.train, rows.replayed
    return Schedule(
        lengths=rows.train.lengths,
        rows_per_file=rows.rows_per_file,
        weights=build_weights(recipe, rows),
        seed=train.seed,
        batch_rows=train.batch_rows,
        batch_tokens=train.batch_tokens,
        accumulate=train.accumulate,
        epochs=train.epochs,
        steps=train.steps,
        replay_rows=replayed.rows if replayed else 0,
        replay_share=replayed.share if replayed else 0.0,
        phrasings=rows.train.phrasings,
    )


def build_loader(recipe: Recipe, rows: Rows) -> Loader:
    """The training batches of every step; of a method that draws answers, what it plans of them."""
    method = methods.load(recipe.method.name)
    schedule, layout = build_schedule(recipe, rows), build_layout(recipe)
    pad = pad_id(rows.renderer)
    if SAMPLER not in method.NEEDS:
        return Loader(rows.train, schedule, layout, pad)
    require_rows(recipe)
    num_steps = recipe.train.steps or schedule.num_steps * recipe.method.steps_per_rollout
    way = Way(method, recipe.method, recipe.train.seed, num_steps)
    return Rollouts(rows.train, schedule, _of_minibatches(layout, recipe), pad, way)


def build_layout(recipe: Recipe) -> Layout:
    """How the examples of a step are laid out in forward passes."""
    train = recipe.train
    return Layout(
        recipe.data.packing,
        train.batch_rows,
        train.batch_tokens,
        best_tokens(recipe),
        virtual_tokens(recipe.adapter),
    )


def _of_minibatches(layout: Layout, recipe: Recipe) -> Layout:
    """The layout of passes that hold no more prompts than a step has."""
    a_rollout = recipe.train.batch_rows * recipe.train.accumulate
    a_step = -(-a_rollout // recipe.method.minibatches)
    return replace(layout, max_rows=min(layout.max_rows, a_step))


def build_optimizer(recipe: Recipe, learner: Learner) -> Optimizer:
    """The optimizer over the trained parameters."""
    train, attached = recipe.train, learner.attached
    settings = Settings(train.weight_decay, train.layer_decay, attached.rates)
    choice = optimizers.choose(train.optimizer, device())
    optimizers.require_schedule(train.optimizer, choice, train.schedule)
    return optimizers.build(
        train.optimizer,
        [
            *parameter_groups(attached.model, attached.trained, settings, choice.matrices),
            *beside(learner.companion, choice.matrices),
        ],
        train.learning_rate,
        train.weight_decay,
        train.optimizer_options,
    )


def build_loss(recipe: Recipe, learner: Learner) -> Callable[[Batch], LossSum]:
    """The method's loss of one batch, with policy and keys filled in, told by source."""
    method, weight = methods.load(recipe.method.name), recipe.train.kl_to_base
    loss = partial(method.loss, learner.policy, config=recipe.method)
    loss = by_source.telling(loss, by_source.names_by_path(recipe.data))
    if SAMPLER in method.NEEDS:
        loss = telling(loss)
    if weight is None:
        return loss
    disabled = learner.attached.disabled
    if disabled is None:
        raise RecipeError(
            "train.kl_to_base",
            got=f"{weight:g} with adapter.name: {recipe.adapter.name}, which changes the base",
            expected="an adapter that can be turned off",
            hint="adapter.name: lora, or leave train.kl_to_base out",
        )
    return NearBase(loss, learner.policy, disabled, weight)


def build_ahead(recipe: Recipe, learner: Learner) -> Callable[[Sequence[Batch]], list[Batch]]:
    """What tells the batches of a step of each other, as far as the method asks for it."""
    ahead = getattr(methods.load(recipe.method.name), "ahead", None)
    if ahead is None:
        return list
    return partial(methods.informed, partial(ahead, learner.policy, config=recipe.method))


def build_trial(recipe: Recipe, learner: Learner) -> Trial:
    """What runs passes and steps to measure them, with an optimizer to throw away."""
    ahead, loss = build_ahead(recipe, learner), build_loss(recipe, learner)
    return Trial(
        learner.attached.model,
        lambda batch: loss(ahead([batch])[0]),
        build_optimizer(recipe, learner),
        list(learner.trained.values()),
        recipe.train.clip,
        device(),
    )


def build_room(recipe: Recipe, learner: Learner, trial: Trial, num_steps: int) -> Room:
    """What the run will write, by a trial that has run: its optimizer has all its moments."""
    trained = learner.trained
    weights = sum(parameter.nbytes for parameter in learner.attached.trained.values())
    every, evaluated = recipe.checkpoint.every, recipe.evaluate.every
    saves = num_steps // every + (num_steps // evaluated if evaluated else 0) + 1
    return room.measure(
        Path(recipe.output.dir),
        num_bytes(trained, trial.optimizer) + (weights if recipe.train.ema else 0),
        # Besides those that are kept: the best one, and the one that is being written.
        min(recipe.checkpoint.keep + recipe.checkpoint.num_averaged + 2, saves),
        weights,
    )


def pad_id(renderer: Renderer) -> int:
    """A token to fill padded batches with; it is masked, so any will do where there is none."""
    pad = renderer.tokenizer.pad_token_id
    return 0 if pad is None else pad


def build_rate(recipe: Recipe, num_steps: int) -> LearningRate:
    """The learning rate of every step."""
    train = recipe.train
    return LearningRate(
        train.learning_rate, train.schedule, train.warmup, num_steps, train.min_rate
    )


def build_parts(
    recipe: Recipe, learner: Learner, loader: Loader, notice: Callable[[Event], None]
) -> Parts:
    """What the loop runs with; it measures, saves and stops only once it is told how."""
    trained = learner.attached.trained
    parameters = list(learner.trained.values())
    optimizer = build_optimizer(recipe, learner)
    return Parts(
        model=learner.attached.model,
        loss=build_loss(recipe, learner),
        loader=loader,
        parameters=parameters,
        optimizer=optimizer,
        learning_rate=build_rate(recipe, loader.num_steps),
        clip=recipe.train.clip,
        seed=recipe.train.seed,
        device=device(),
        notice=notice,
        evaluate=lambda step: False,
        save=lambda step, must: None,
        stop=lambda: False,
        guard=Guard(
            loader.num_steps,
            outliers=recipe.train.guard,
            comparable=SAMPLER not in methods.load(recipe.method.name).NEEDS,
        ),
        watch=Watch(parameters),
        freeze=Unfreezing(learner.attached.model, trained, recipe.train.unfreeze),
        measured=_measured(recipe, trained, optimizer),
        ema=_ema(recipe, trained),
        ahead=build_ahead(recipe, learner),
    )


def _measured(recipe: Recipe, trained: Mapping[str, Tensor], optimizer: Optimizer) -> Measured:
    """Which weights are measured: those of the optimizer, where it has others than the model."""
    put = optimizers.choose(recipe.train.optimizer, device()).measured
    if put is not None and (recipe.train.ema or recipe.checkpoint.average):
        raise RecipeError(
            "train.optimizer",
            got=f"{recipe.train.optimizer} with train.ema or checkpoint.average",
            expected="neither: this optimizer averages weights by itself",
        )
    return Measured(trained, None if put is None else partial(put, optimizer))


def _ema(recipe: Recipe, trained: Mapping[str, Tensor]) -> Ema | None:
    return None if recipe.train.ema is None else Ema(trained, recipe.train.ema)
