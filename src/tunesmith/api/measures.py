"""Builds what a run measures: held-out batches, tasks, probes, and the model that answers them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tunesmith.api.build import build_ahead
from tunesmith.api.learner import Learner
from tunesmith.api.overall import overall
from tunesmith.api.rows import Rows, pad_id
from tunesmith.data.collate import collate
from tunesmith.data.example import Batch
from tunesmith.data.order import plan_batches
from tunesmith.data.reading import read_file
from tunesmith.data.template import Renderer
from tunesmith.evaluate import probes
from tunesmith.evaluate.heldout import HeldoutResult, heldout_loss, measured
from tunesmith.evaluate.probes.base import (
    MAX_BATCH_TOKENS,
    Collate,
    ProbeResult,
    ProbeSet,
    lay_out,
)
from tunesmith.evaluate.task import TaskRows, prepare_task
from tunesmith.generate.generate import generate
from tunesmith.generate.options import GenerateOptions
from tunesmith.methods import base as methods
from tunesmith.models.policy import Policy
from tunesmith.models.resting import resting
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
        return generate(self.learner.policy.language, prompts, options)

    def texts(self, prompts: list[list[int]], max_new_tokens: int) -> list[str]:
        """Answers as text, without special tokens."""
        tokenizer = self.renderer.tokenizer
        answers = self.ids(prompts, max_new_tokens, keep_stop=False)
        return [tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]

    def smaller(self) -> "Answers | None":
        """With half the rows side by side; None when it is one."""
        return replace(self, batch_rows=self.batch_rows // 2) if self.batch_rows > 1 else None


@dataclass(frozen=True)
class HeldoutRows:
    """The held-out rows, laid out when they are asked for.

    Attributes:
        rows: Of the run.
        packed: As its other batches are.
        result: Measures batches.
        overall: Figures of the whole of a result.
        max_tokens: Of one batch; a longer row has one of its own.
    """

    rows: Rows
    packed: bool
    result: Callable[[Sequence[Batch]], HeldoutResult]
    overall: Callable[[HeldoutResult], dict[str, float]]
    max_tokens: int = HELDOUT_TOKENS

    def measure(self) -> HeldoutResult:
        """What the model as it is now makes of them."""
        found = self.result(self.batches())
        return replace(found, overall=self.overall(found))

    def batches(self) -> list[Batch]:
        """All of them in order, so that they pair with those of another evaluation."""
        lay = partial(collate, packed=self.packed, pad_id=pad_id(self.rows.renderer))
        heldout = self.rows.heldout
        return [lay([heldout[i] for i in range(*bounds)]) for bounds in pairwise(self._bounds())]

    def smaller(self) -> "HeldoutRows | None":
        """In batches of half the tokens; None when each row is one already."""
        if len(self._bounds()) > len(self.rows.heldout):
            return None
        return replace(self, max_tokens=self.max_tokens // 2)

    def _bounds(self) -> np.ndarray:
        lengths = self.rows.heldout.lengths
        return plan_batches(lengths, np.arange(len(lengths)), None, self.max_tokens)


@dataclass(frozen=True)
class BoundProbe:
    """A probe with the base's distribution at hand, cheaply: its final hidden states.

    Attributes:
        name: Of the probe.
        policy: The model that is trained.
        asked: Prompts and the base's answers.
        features: The base's features at the answer tokens, one tensor a batch.
        head: The base's head, where training may change it; None where it stays.
        lay: Lays examples out.
        max_tokens: Answer tokens of one batch.
    """

    name: str
    policy: Policy
    asked: ProbeSet
    features: list[Tensor]
    head: Tensor | None
    lay: Collate
    max_tokens: int = MAX_BATCH_TOKENS

    def measure(self) -> ProbeResult:
        """Compare the model as it is now with the base."""
        return probes.load(self.name).measure(
            self.asked,
            lambda i: self.policy.log_probs_of(self.features[i], self.head),
            lambda batch: self.policy.log_probs_of(self.policy.features(batch)),
        )

    def smaller(self) -> "BoundProbe | None":
        """In batches of half the tokens; None when each prompt is one already."""
        asked, tokens = self.asked, self.max_tokens // 2
        if len(asked.batches) == len(asked.prompts):
            return None
        asked = lay_out(asked.prompts, asked.answers, self.name, self.lay, tokens)
        sizes = [batch.num_trained for batch in asked.batches]
        features = list(torch.cat(self.features).split(sizes))
        return replace(self, asked=asked, features=features, max_tokens=tokens)


def build_heldout(recipe: Recipe, rows: Rows, learner: Learner) -> HeldoutRows | None:
    """The held-out rows, measured as the method does; None without `data.eval`."""
    if rows.heldout is None:
        return None
    method = methods.load(recipe.method.name)
    if not hasattr(method, "measure"):
        result = partial(heldout_loss, learner.policy.token_nll)
    else:
        of_batch = partial(method.measure, learner.policy, config=recipe.method)
        ahead = build_ahead(recipe, learner)

        def result(batches: Sequence[Batch]) -> HeldoutResult:
            return measured(of_batch, ahead(batches))

    whole = partial(overall, method, rows.heldout)
    return HeldoutRows(rows, recipe.data.packing, result, whole)


def build_tasks(recipe: Recipe, renderer: Renderer) -> list[TaskRows]:
    """The tasks of the recipe, rendered and checked."""
    return [prepare_task(spec, read_file(spec.path), renderer) for spec in recipe.evaluate.tasks]


def build_probes(
    recipe: Recipe, learner: Learner, answers: Answers, folder: Path
) -> list[BoundProbe]:
    """Ask the base what the probes ask; must be called before anything is trained or restored.

    The base's answers are kept in `folder`, as proof and so that a resumed run need not ask again.
    """
    return [build_probe(name, recipe, learner, answers, folder) for name in probe_names(recipe)]


def probe_names(recipe: Recipe) -> list[str]:
    """The probes of the recipe, each once."""
    return list(dict.fromkeys(recipe.evaluate.probes))


def build_probe(
    name: str, recipe: Recipe, learner: Learner, answers: Answers, folder: Path
) -> BoundProbe:
    """One of `build_probes`."""
    lay = partial(collate, packed=recipe.data.packing, pad_id=pad_id(answers.renderer))
    probe = probes.load(name)
    path, policy = folder / f"{name}.json", learner.policy
    with learner.as_base():
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            asked = lay_out(kept["prompts"], kept["answers"], name, lay)
        else:
            asked = probe.prepare(answers.ids, answers.renderer, lay, probe.Config())
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, {"prompts": asked.prompts, "answers": asked.answers})
        with resting(policy.model):
            features = [policy.features(batch) for batch in asked.batches]
    head = policy.head.detach().clone() if learner.adapter.TRAINS_BASE else None
    return BoundProbe(name, policy, asked, features, head, lay)
