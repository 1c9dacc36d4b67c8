"""Ways to break the engine on purpose, one line of it at a time: `prove` must notice each."""

import time
from collections.abc import Callable
from importlib import import_module
from itertools import count

import torch

from tunesmith.api import build
from tunesmith.api.proof import laws
from tunesmith.data import order
from tunesmith.data.loader import Loader
from tunesmith.engine import loop, saving
from tunesmith.engine.evaluation import Evaluator
from tunesmith.engine.schedule import LearningRate
from tunesmith.methods.base import LossSum

training = import_module("tunesmith.api.train")  # As an attribute of the package it is the verb.


def poison(row: int) -> None:
    """Let the loss of every batch with this row be NaN, as a row of garbage would."""
    made = build.build_parts

    def poisoned(*given):
        parts = made(*given)
        good = parts.loss

        def loss(batch):
            found = good(batch)
            bad = any(number == row for _, number in batch.rows)
            return LossSum(found.total * torch.nan, found.count) if bad else found

        parts.loss = loss
        return parts

    build.build_parts = poisoned


def order_ignores_epoch() -> None:
    good = order.epoch_order
    order.epoch_order = lambda files, weights, seed, epoch: good(files, weights, seed, 0)


def order_loses_rows() -> None:
    good = order.epoch_order

    def twice(*given):
        found = good(*given).copy()
        found[0] = found[1]
        return found

    order.epoch_order = twice


def seed_ignores_step() -> None:
    # Wrong in the definition itself, so that the law cannot just ask it again.
    loop.step_seed = laws.step_seed = lambda seed, step: seed


def steps_are_not_seeded() -> None:
    loop.step_seed = laws.step_seed = lambda seed, step: time.time_ns()


def optimizer_starts_anew() -> None:
    saving.restore_optimizer = lambda *given: None


def rate_counts_for_itself() -> None:
    good, steps = LearningRate.__call__, count()
    LearningRate.__call__ = lambda self, step: good(self, next(steps))


def loader_counts_for_itself() -> None:
    good, steps = Loader.step, count()
    Loader.step = lambda self, index: good(self, next(steps) % self.num_steps)


def history_is_lost() -> None:
    training.read_history = lambda values: {}


def first_step_is_left_out() -> None:
    good = training._restore
    training._restore = lambda *given: good(*given) + 1


def one_parameter_is_not_restored() -> None:
    good = training.restore

    def lossy(folder, trained, *more):
        name = next(iter(trained))
        start = trained[name].detach().clone()
        values = good(folder, trained, *more)
        trained[name].data.copy_(start)
        return values

    training.restore = lossy


def measuring_moves_weights() -> None:
    good = Evaluator.measure

    def moving(self, step):
        # PEFT lets nothing of an adapter be trained that is off, as it is while the base is asked.
        trained = (p for n, p in self.policy.model.named_parameters() if "lora_A" in n)
        next(trained).data.add_(1e-6)
        return good(self, step)

    Evaluator.measure = moving


BREAKS: dict[str, Callable[[], None]] = {
    made.__name__: made
    for made in (
        order_ignores_epoch,
        order_loses_rows,
        seed_ignores_step,
        steps_are_not_seeded,
        optimizer_starts_anew,
        rate_counts_for_itself,
        loader_counts_for_itself,
        history_is_lost,
        first_step_is_left_out,
        one_parameter_is_not_restored,
        measuring_moves_weights,
    )
}
