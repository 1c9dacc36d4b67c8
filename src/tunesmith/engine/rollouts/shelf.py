"""Rollouts on the disk: for people to read, and so that a resumed run goes on with the same ones.

`step-N.jsonl` has a line for each prompt; `step-N.safetensors` all that batches are made of, to the
last bit. N is the step, from 1, that was the first to train on it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tunesmith.data.rollout import Group, Lesson
from tunesmith.errors import CheckpointError
from tunesmith.runs.durable import make_folder, write_durably

Rows = tuple[tuple[str, int], ...]
SCORE, TOKEN = "score/", "token/"


@dataclass(frozen=True, slots=True)
class Shelf:
    """The folder of a run's rollouts."""

    folder: Path

    def put(self, step: int, groups: Sequence[Group], lessons: Sequence[Lesson]) -> None:
        """Write the rollout that `step` is the first to train on."""
        make_folder(self.folder)
        pairs = zip(groups, lessons, strict=True)
        lines = [json.dumps(shown(*pair), ensure_ascii=False) for pair in pairs]
        text = "".join(line + "\n" for line in lines)
        write_durably(self._path(step, "jsonl"), text.encode("utf-8", "backslashreplace"))
        places = json.dumps([[g.example, g.source, g.row, g.ungraded] for g in groups])
        content = save(_flat(groups), {"places": places})
        write_durably(self._path(step, "safetensors"), content)

    def get(self, step: int) -> list[Group]:
        """The same groups, without their texts.

        Raises:
            CheckpointError: They are not there, or damaged.
        """
        path = self._path(step, "safetensors")
        try:
            with safe_open(path, "np") as file:
                flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                places = json.loads(file.metadata()["places"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                str(path),
                got=f"no answers of step {step} that can be read ({error})",
                expected="those that the step was trained on",
                hint="begin anew with tunesmith train, or go on from an earlier checkpoint",
            ) from error
        return _groups(flat, places)

    def rows(self) -> dict[int, Rows]:
        """File and row of every prompt, by the step that each rollout begins with."""
        found = {}
        for path in self.folder.glob("step-*.jsonl"):
            records = map(json.loads, path.read_bytes().splitlines())
            step = int(path.stem.removeprefix("step-"))
            found[step] = tuple((record["source"], record["row"]) for record in records)
        return dict(sorted(found.items()))

    def has(self, step: int) -> bool:
        """Whether there is such a rollout."""
        return self._path(step, "safetensors").is_file()

    def _path(self, step: int, ending: str) -> Path:
        return self.folder / f"step-{step}.{ending}"


def shown(group: Group, lesson: Lesson) -> dict[str, Any]:
    """A group as people read it."""
    return {
        "source": group.source,
        "row": group.row,
        "prompt": group.asked,
        "answers": [
            {
                "text": group.texts[i],
                "reward": _short(group.rewards[i]),
                **{f"reward/{name}": _short(each[i]) for name, each in group.scores.items()},
                **{name: _short(each[i]) for name, each in lesson.by_answer.items()},
                **_means(group, lesson, i),
                "tokens": len(group.answers[i]),
                "stopped": bool(group.stopped[i]),
                "trained": bool(lesson.trained[i]),
            }
            for i in range(len(group))
        ],
    }


def _means(group: Group, lesson: Lesson, number: int) -> dict[str, float]:
    """Of what the lesson has by token, the mean over the tokens of an answer."""
    stop = int(group.lengths[: number + 1].sum())
    part = slice(stop - len(group.answers[number]), stop)
    return {f"mean {name}": _short(each[part].mean()) for name, each in lesson.by_token.items()}


def _short(value: np.floating) -> float:
    return float(f"{value:.6g}")


def _flat(groups: Sequence[Group]) -> dict[str, NDArray]:
    """All groups end to end."""
    flat = {
        "prompt_lengths": np.array([len(g.prompt) for g in groups], dtype=np.int64),
        "num_answers": np.array([len(g) for g in groups], dtype=np.int64),
        "answer_lengths": np.concatenate([g.lengths for g in groups]),
        "prompts": np.concatenate([g.prompt for g in groups]),
        "answers": np.concatenate([answer for g in groups for answer in g.answers]),
        "stopped": np.concatenate([g.stopped for g in groups]),
        "rewards": np.concatenate([g.rewards for g in groups]),
    }
    for opening, of in ((SCORE, lambda g: g.scores), (TOKEN, lambda g: g.by_token)):
        for name in of(groups[0]):
            flat[opening + name] = np.concatenate([of(g)[name] for g in groups])
    return flat


def _groups(flat: dict[str, NDArray], places: list[tuple[int, str, int, int]]) -> list[Group]:
    """The reverse of `_flat`."""
    numbers = flat["num_answers"]
    by_answer = np.cumsum(numbers)[:-1]
    answers = np.split(flat["answers"], np.cumsum(flat["answer_lengths"])[:-1])
    tokens = np.add.reduceat(flat["answer_lengths"], np.append(0, by_answer))
    by_token = np.cumsum(tokens)[:-1]
    prompts = np.split(flat["prompts"], np.cumsum(flat["prompt_lengths"])[:-1])
    cut = {n: np.split(v, by_answer) for n, v in flat.items() if n.startswith(SCORE)}
    cut |= {n: np.split(v, by_token) for n, v in flat.items() if n.startswith(TOKEN)}
    stopped, rewards = (np.split(flat[name], by_answer) for name in ("stopped", "rewards"))
    first = np.append(0, by_answer)
    return [
        Group(
            example=example,
            source=source,
            row=row,
            prompt=prompts[i],
            answers=tuple(answers[first[i] : first[i] + numbers[i]]),
            stopped=stopped[i],
            rewards=rewards[i],
            scores={n.removeprefix(SCORE): v[i] for n, v in cut.items() if n.startswith(SCORE)},
            ungraded=ungraded,
            by_token={n.removeprefix(TOKEN): v[i] for n, v in cut.items() if n.startswith(TOKEN)},
        )
        for i, (example, source, row, ungraded) in enumerate(places)
    ]
