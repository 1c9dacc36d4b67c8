"""`evaluate`: score a run or a base on a task."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.api.answer import Speaker, open_speaker
from tunesmith.api.judge import judge, recipe_of
from tunesmith.api.judges import base_judge, means_of
from tunesmith.data.reading import read_file
from tunesmith.data.template import Renderer
from tunesmith.evaluate.means import Judge, Means
from tunesmith.evaluate.statistics import paired_bootstrap
from tunesmith.evaluate.task import TaskSpec, prepare_task, run_task
from tunesmith.models.policy import Policy
from tunesmith.models.resolve import resolve
from tunesmith.runs.folder import RunFolder


def evaluate(
    name: str,
    path: str,
    grader: str | dict[str, Any] = "exact",
    max_new_tokens: int = 256,
    limit: int | None = None,
) -> dict[str, Any]:
    """Generate an answer for each row of a data file and score it.

    A run whose model does not write is measured as it measures its held-out rows; see `judge`.

    Args:
        name: A run folder, `starter`, a model folder, a GGUF file or a hub id.
        path: Data file of any row shape; its last answers are the references.
        grader: A grader's name, or OpenAI's grader JSON.
        max_new_tokens: Longest answer.
        limit: Only the first so many rows.

    Returns:
        `task`, `n`, `score`, `interval` (95 %), `outputs`, `scores`, `failures`; or what `judge`
        gives.
    """
    if recipe := recipe_of(name):
        return judge(name, recipe, path)
    spec = TaskSpec(path=path, grader=grader, max_new_tokens=max_new_tokens, limit=limit)
    speaker = open_speaker(name)
    renderer = Renderer(speaker.tokenizer, speaker.stop_ids)
    task = prepare_task(spec, read_file(path), renderer).asking(_means(speaker, name))
    result = run_task(task, speaker.texts)
    interval = paired_bootstrap(np.zeros(len(task)), result.scores)
    return {
        "task": result.name,
        "n": len(task),
        "score": result.score,
        "interval": [interval.low, interval.high],
        "outputs": result.outputs,
        "scores": result.scores.tolist(),
        "failures": [f"{failure.place}: {failure.reason}" for failure in result.failures],
    }


def _means(speaker: Speaker, name: str) -> Means:
    """What graders of this model may ask; its judge `base` is its own base, without an adapter."""

    def base() -> Judge:
        folder = RunFolder(Path(name))
        if not folder.exists:
            return base_judge(speaker, resolve(name, None).sha256, nullcontext)
        locked = json.loads(folder.lock.read_text(encoding="utf-8"))
        return base_judge(speaker, locked["base"]["sha256"], speaker.adapter and speaker.as_base)

    policy = Policy(speaker.model, "fast", speaker.model.dtype)
    return means_of(speaker, policy, base)
