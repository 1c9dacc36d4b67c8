"""Builds what the loop runs with from a resolved recipe, one function a part."""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from tunesmith.api import by_source
from tunesmith.api.batches import SAMPLER
from tunesmith.api.companion import beside
from tunesmith.api.learner import Learner
from tunesmith.api.resolve import device
from tunesmith.data.example import Batch
from tunesmith.data.loader import Loader
from tunesmith.engine import optimizer as optimizers
from tunesmith.engine.ema import Ema
from tunesmith.engine.fit import Trial
from tunesmith.engine.groups import Settings, parameter_groups
from tunesmith.engine.guard import Guard
from tunesmith.engine.measured import Measured
from tunesmith.engine.near_base import NearBase
from tunesmith.engine.parts import Parts
from tunesmith.engine.rollouts.told import telling
from tunesmith.engine.saving import num_bytes
from tunesmith.engine.schedule import LearningRate
from tunesmith.engine.unfreeze import Unfreezing
from tunesmith.engine.watch import Watch
from tunesmith.errors import RecipeError
from tunesmith.methods import base as methods
from tunesmith.methods.base import LossSum
from tunesmith.recipe import Recipe
from tunesmith.runs import room
from tunesmith.runs.events import Event
from tunesmith.runs.room import Room


def seed_everything(seed: int) -> None:
    """Seed every generator that a part might draw from while it is built."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


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
