"""What a teacher thinks of every trained token: asked once, kept on the disk.

The file is named by all that decides what is in it, so that another run, or a resumed one, reads it
back, and the teacher is loaded only when there is something to ask.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from tunesmith.api.batches import SAMPLER
from tunesmith.api.beforehand import Asked, asked_about, passes, path_of
from tunesmith.api.resolve import device
from tunesmith.api.rows import Rows
from tunesmith.data.loader import Loader
from tunesmith.data.tokenizer_facts import tokenizer_state
from tunesmith.engine.precision import DTYPES
from tunesmith.errors import RecipeError
from tunesmith.methods import base as methods
from tunesmith.models import fast
from tunesmith.models.base import Base, BaseSource
from tunesmith.models.load import load
from tunesmith.models.policy import Policy
from tunesmith.models.resolve import resolve as find
from tunesmith.recipe import Recipe
from tunesmith.runs.durable import disk_errors
from tunesmith.runs.events import Event, Phase

TEACHER = "teacher"
"""In a method's NEEDS; its `Config` then has the keys teacher, top_k and temperature."""
IDS, LOG_PROBS = "teacher_ids", "teacher_log_probs"
"""Numbers that its batches bring, (N, top_k) each. Ids are exact in float32 up to 16 million."""


def add_teacher(
    recipe: Recipe,
    base: Base,
    rows: Rows,
    loader: Loader,
    notice: Callable[[Event], None],
) -> None:
    """Give the examples of a method that NEEDS "teacher" its likeliest tokens in each place.

    Raises:
        RecipeError: As `open_teacher`.
    """
    needs = methods.load(recipe.method.name).NEEDS
    if TEACHER not in needs or SAMPLER in needs:  # Answers that are drawn cannot be asked about.
        return
    source = find(recipe.method.teacher, None)
    asked = asked_about(rows, loader)
    what = {"teacher": source.sha256, "asked": [recipe.method.top_k, recipe.method.temperature]}
    paths = [path_of(TEACHER, recipe, each, what) for each in asked]
    if not all(path.is_file() for path in paths):
        notice(Phase(f"asking the teacher {recipe.method.teacher} about every answer"))
        policy = open_teacher(source, recipe, base.tokenizer)
        for each, path in zip(asked, paths, strict=True):
            if not path.is_file():
                _write(path, _answers(recipe, policy, rows, each))
    for each, path in zip(asked, paths, strict=True):
        _add(each, np.memmap(path, dtype=np.float32, mode="r"))


def _add(asked: Asked, flat: np.ndarray) -> None:
    """Numbers from a file of (targets, 2, k) float32."""
    counts = asked.prepared.num_trained[asked.wanted]
    ends = np.cumsum(counts, dtype=np.int64)
    whole = flat.reshape(int(ends[-1]), 2, -1)

    def of(part: int) -> Callable[[int], np.ndarray]:
        def give(index: int) -> np.ndarray:
            start = ends[index] - counts[index]
            return np.array(whole[start : ends[index], part])

        return give

    asked.add(IDS, of(0))
    asked.add(LOG_PROBS, of(1))


def _answers(recipe: Recipe, policy: Policy, rows: Rows, asked: Asked) -> Iterator[np.ndarray]:
    """(n, 2, k) float32 for the n targets of each pass, in the order of the examples."""
    method = recipe.method
    for batch in passes(rows, asked, recipe.data.packing):
        there = batch.to(policy.device)
        ids, log_probs = policy.most_likely(there, method.top_k, method.temperature)
        yield torch.stack([ids.float(), log_probs], 1).cpu().numpy()


def _write(path: Path, parts: Iterator[np.ndarray]) -> None:
    """All parts end to end; the file has its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with disk_errors(path, 0), unfinished.open("wb") as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).tobytes())
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def open_teacher(source: BaseSource, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Policy:
    """The teacher of `recipe.method` in memory, on the compute paths of the run.

    Args:
        source: Where `method.teacher` was found.
        recipe: Of the run.
        tokenizer: Of the base.

    Raises:
        RecipeError: It has another tokenizer, or fewer tokens than are to be kept.
    """
    teacher = load(source, DTYPES[recipe.train.precision])
    if tokenizer_state(teacher.tokenizer) != tokenizer_state(tokenizer):
        raise RecipeError(
            "method.teacher",
            got=f"{source.id}, whose tokenizer is another than that of {recipe.model.base}",
            expected="a teacher with the tokenizer of the base: tokens are compared one by one",
            hint="take a larger model of the same family, or train on texts that it wrote (sft)",
        )
    teacher.model.to(device())
    if recipe.train.kernels == "fast":
        fast.lay_over(teacher.model)
    policy = Policy(teacher.model, recipe.train.kernels, DTYPES[recipe.train.precision])
    if recipe.method.top_k > len(policy.head):
        raise RecipeError(
            "method.top_k",
            got=str(recipe.method.top_k),
            expected=f"at most {len(policy.head)}, all tokens that {source.id} can say",
        )
    return policy
