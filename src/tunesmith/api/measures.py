"""Builds what a run measures: held-out batches, tasks, probes, and the model that answers them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import Tensor

from tunesmith.api.build import Learner, Rows, pad_id
from tunesmith.data.collate import collate
from tunesmith.data.example import Batch
from tunesmith.data.order import plan_batches
from tunesmith.data.reading import read_file
from tunesmith.data.template import Renderer
from tunesmith.evaluate import probes
from tunesmith.evaluate.probes.base import ProbeResult, ProbeSet, lay_out
from tunesmith.evaluate.task import TaskRows, prepare_task
from tunesmith.generate.generate import generate
from tunesmith.generate.options import GenerateOptions
from tunesmith.models.policy import Policy
from tunesmith.recipe import Recipe
from tunesmith.runs.folder import write_json

HELDOUT_TOKENS = 1024
"""Tokens of one held-out batch."""


@dataclass(frozen=True)
class Answers:
    """The model as it is at the time of a call, answering greedily.

    Attributes:
        learner: Whose model answers.
        renderer: Knows stop tokens and tokenizer.
        batch_rows: Rows side by side.
    """

    learner: Learner
    renderer: Renderer
    batch_rows: int

    def ids(
        self, prompts: list[list[int]], max_new_tokens: int, keep_stop: bool = True
    ) -> list[list[int]]:
        """Answers as token ids, with the stop token that ended them."""
        options = GenerateOptions(
            max_new_tokens,
            self.renderer.stop_ids,
            pad_id(self.renderer),
            self.batch_rows,
            keep_stop,
        )
        return generate(self.learner.attached.model, prompts, options)

    def texts(self, prompts: list[list[int]], max_new_tokens: int) -> list[str]:
        """Answers as text, without special tokens."""
        tokenizer = self.renderer.tokenizer
        answers = self.ids(prompts, max_new_tokens, keep_stop=False)
        return [tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]


@dataclass(frozen=True)
class BoundProbe:
    """A probe with the base's distribution at hand, cheaply: its final hidden states.

    Attributes:
        name: Of the probe.
        policy: The model that is trained.
        asked: Prompts and the base's answers.
        features: The base's features at the answer tokens, one tensor a batch.
        head: The base's head, where training may change it; None where it stays.
    """

    name: str
    policy: Policy
    asked: ProbeSet
    features: list[Tensor]
    head: Tensor | None

    def measure(self) -> ProbeResult:
        """Compare the model as it is now with the base."""
        return probes.load(self.name).measure(
            self.asked,
            lambda i: self.policy.log_probs_of(self.features[i], self.head),
            lambda batch: self.policy.log_probs_of(self.policy.features(batch)),
        )


def build_heldout(recipe: Recipe, rows: Rows) -> list[Batch]:
    """The held-out rows as batches, longest examples kept together; empty without `data.eval`."""
    if rows.heldout is None:
        return []
    order = np.arange(len(rows.heldout))
    bounds = plan_batches(rows.heldout.lengths, order, None, HELDOUT_TOKENS)
    lay = partial(collate, packed=recipe.data.packing, pad_id=pad_id(rows.renderer))
    return [lay([rows.heldout[i] for i in range(start, end)]) for start, end in pairwise(bounds)]


def build_tasks(recipe: Recipe, renderer: Renderer) -> list[TaskRows]:
    """The tasks of the recipe, rendered and checked."""
    return [prepare_task(spec, read_file(spec.path), renderer) for spec in recipe.evaluate.tasks]


def build_probes(
    recipe: Recipe, learner: Learner, answers: Answers, folder: Path
) -> list[BoundProbe]:
    """Ask the base what the probes ask; must be called before anything is trained or restored.

    The base's answers are kept in `folder`, as proof and so that a resumed run need not ask again.
    """
    lay = partial(collate, packed=recipe.data.packing, pad_id=pad_id(answers.renderer))
    bound = []
    for name in dict.fromkeys(recipe.evaluate.probes):
        probe = probes.load(name)
        path = folder / f"{name}.json"
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            asked = lay_out(kept["prompts"], kept["answers"], name, lay)
        else:
            asked = probe.prepare(answers.ids, answers.renderer, lay, probe.Config())
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, {"prompts": asked.prompts, "answers": asked.answers})
        bound.append(_bind(name, learner, asked))
    return bound


def _bind(name: str, learner: Learner, asked: ProbeSet) -> BoundProbe:
    policy = learner.policy
    policy.model.eval()
    features: Sequence[Tensor] = [policy.features(batch) for batch in asked.batches]
    head = policy.head.detach().clone() if learner.adapter.TRAINS_BASE else None
    return BoundProbe(name, policy, asked, list(features), head)
