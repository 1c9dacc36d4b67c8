"""Which examples come in which step of a run, and how a step is laid out in passes."""

from dataclasses import replace

from tunesmith.adapters import base as adapters
from tunesmith.adapters.base import virtual_tokens
from tunesmith.api.combined import require_rows
from tunesmith.api.resolve import device
from tunesmith.api.rows import Rows, pad_id
from tunesmith.data.loader import Loader
from tunesmith.data.mixing import evened
from tunesmith.data.order import Schedule
from tunesmith.data.planner import Layout
from tunesmith.engine.rollouts.loader import Rollouts, Way
from tunesmith.methods import base as methods
from tunesmith.recipe import Recipe

BEST_TOKENS = {"bf16": 1024, "fp32": 512}
"""Tokens of a forward pass beyond which a CPU gains too little speed for the memory, by precision
(benchmarks/pass_tokens.py). Rows of Alpaca, LoRA: in bf16 on two Zen 5 cores 772 tokens/s with
1,024 and 747 with 512, a step of 2,000 as a whole no faster; in fp32, whose activations are twice
as large, on two Zen 3 cores 163 with either, 165 and 171 over an int8 base."""
BASE_TOKENS = 2048
"""The same where the base is trained: there each pass adds to the gradient of every weight, about
0.3 s of processor time for the starter beside 4 s of a step."""
SAMPLER = "sampler"
"""In the NEEDS of a method whose answers the model draws itself."""


def best_tokens(recipe: Recipe) -> int | None:
    """Tokens of a forward pass beyond which this device gains nothing; None where it always does.

    A GPU is filled by larger passes, so there the recipe's limits alone hold.
    """
    if device().type != "cpu":
        return None
    trains_base = adapters.load(recipe.adapter.name).TRAINS_BASE
    return BASE_TOKENS if trains_base else BEST_TOKENS[recipe.train.precision]


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
