"""From groups and lessons to the examples that batches are made of."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.example import Example
from tunesmith.data.rollout import Figure, Group, Lesson

FIGURE = "figure/"
"""Opens the names of numbers that are no input of a loss, but told of the step: (1, 2) a sum, and
what to divide it by."""


def example_of(group: Group, lesson: Lesson) -> Example:
    """The answers of a group that are trained on, each behind the prompt, with their numbers."""
    kept_G = lesson.trained
    kept_N = np.repeat(kept_G, group.lengths)
    answers = [answer for answer, kept in zip(group.answers, kept_G, strict=True) if kept]
    prompt = group.prompt
    trained = [np.arange(len(prompt) + len(answer)) >= len(prompt) for answer in answers]
    numbers = {name: values[kept_G] for name, values in lesson.by_answer.items()}
    for named in (group.by_token, lesson.by_token):
        numbers |= {name: values[kept_N] for name, values in named.items()}
    return Example(
        np.concatenate([part for answer in answers for part in (prompt, answer)]),
        np.concatenate(trained),
        group.source,
        group.row,
        tuple(len(prompt) + len(answer) for answer in answers),
        {**numbers, **_as_numbers(figures_of(group, lesson))},
    )


def whole(group: Group) -> Lesson:
    """The lesson that trains on every answer, without any number."""
    return Lesson(np.ones(len(group), dtype=bool))


def figures_of(group: Group, lesson: Lesson) -> dict[str, Figure]:
    """What a step tells of a group, as sums and what to divide them by."""
    answers, lengths = len(group), group.lengths
    return {
        "reward": (float(group.rewards.sum()), answers),
        **{f"reward/{n}": (float(v.sum()), answers) for n, v in group.scores.items()},
        "reward_deviation": (float(group.rewards.std()), 1),
        "no_signal": (float(np.ptp(group.rewards) == 0), 1),
        "answer_tokens": (float(lengths.sum()), answers),
        "cut": (float((~group.stopped).sum()), answers),
        "entropy": (-float(group.by_token["sampler"].sum()), int(lengths.sum())),
        "ungraded": (group.ungraded, answers),
        **lesson.figures,
    }


def gathered(groups: Sequence[Group], lessons: Sequence[Lesson]) -> list[Example | None]:
    """The example of each group; None for one that is left out, whose figures others tell.

    They are told by the next group that is trained on, or by the last one.
    """
    made: list[Example | None] = []
    waiting: dict[str, Figure] = {}
    for group, lesson in zip(groups, lessons, strict=True):
        if not lesson.trained.any():
            waiting = _added(waiting, figures_of(group, lesson))
            made.append(None)
            continue
        made.append(_with(example_of(group, lesson), waiting))
        waiting = {}
    last = max((i for i, one in enumerate(made) if one is not None), default=None)
    if waiting and last is not None:
        made[last] = _with(made[last], waiting)
    return made


def _with(example: Example, more: Mapping[str, Figure]) -> Example:
    """The same example, telling more."""
    own = {
        name.removeprefix(FIGURE): tuple(value[0])
        for name, value in example.numbers.items()
        if name.startswith(FIGURE)
    }
    numbers = {**example.numbers, **_as_numbers(_added(own, more))}
    return Example(
        example.input_ids,
        example.trained,
        example.source,
        example.row,
        example.parts,
        numbers,
    )


def _added(one: Mapping[str, Figure], other: Mapping[str, Figure]) -> dict[str, Figure]:
    names = [*one, *(name for name in other if name not in one)]
    zero = (0.0, 0.0)
    pairs = {name: (one.get(name, zero), other.get(name, zero)) for name in names}
    return {name: (a[0] + b[0], a[1] + b[1]) for name, (a, b) in pairs.items()}


def _as_numbers(figures: Mapping[str, Figure]) -> dict[str, NDArray[np.float32]]:
    return {FIGURE + n: np.array([pair], dtype=np.float32) for n, pair in figures.items()}
