"""Draws answers to prompts with the weights as they are, and lets graders score them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tunesmith.data.rollout import Group
from tunesmith.data.template import Renderer
from tunesmith.engine.rollouts.judge import Judge
from tunesmith.generate.answers import Answer, answers
from tunesmith.generate.options import GenerateOptions, Sampling
from tunesmith.methods._sampled import Sampled


@dataclass(frozen=True, slots=True)
class Graded:
    """What graders made of some outputs.

    Attributes:
        rewards: (n,) their scores by their weights, added up.
        scores: (n,) of each grader by name; empty where there is one alone.
        failures: Why a grader could not score an output, by the number of the output.
    """

    rewards: NDArray[np.float64]
    scores: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    failures: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What graders want to know of a row besides the output.

    Attributes:
        reference: Its last answer.
        raw: The row as it stands in the file.
    """

    reference: str
    raw: Mapping[str, Any]


Grade = Callable[[Sequence[str], Sequence[Question]], Graded]
"""Scores outputs, each with the question that it answers."""


@dataclass(frozen=True)
class Sampler:
    """Makes the groups of a rollout.

    Attributes:
        model: That answers; it is put to rest meanwhile.
        renderer: Knows stop tokens and tokenizer.
        config: Of the method.
        options: Lengths, stop tokens, rows side by side.
        seed: Of the run.
        grade: Scores outputs.
        judge: Adds what models think of the answers.
        warn: Told of answers that could not be graded.
    """

    model: PreTrainedModel
    renderer: Renderer
    config: Sampled
    options: GenerateOptions
    seed: int
    grade: Grade
    judge: Judge
    warn: Callable[[str], None]

    def __call__(
        self, prompts: Sequence[Group], questions: Sequence[Question], place: tuple[int, int]
    ) -> list[Group]:
        """Fill groups that have a prompt and no answers yet.

        Args:
            prompts: The groups.
            questions: One for each of them.
            place: Number of the rollout, and of the round in it, from 0: with the seed of the run
                they decide what is drawn.
        """
        sampling = Sampling(self.config.temperature, seed=_mixed(self.seed, *place))
        ids = [group.prompt.tolist() for group in prompts]
        number = self.config.num_answers
        drawn = answers(self.model, ids, self.options, sampling, number)
        groups = [self._filled(g, each) for g, each in zip(prompts, drawn, strict=True)]
        texts = [text for group in groups for text in group.texts]
        graded = self.grade(texts, [q for q in questions for _ in range(number)])
        if graded.failures:
            self.warn(_ungraded(place[0], graded, len(texts)))
        return self.judge([_scored(g, graded, i * number) for i, g in enumerate(groups)])

    def _filled(self, group: Group, drawn: Sequence[Answer]) -> Group:
        decode = self.renderer.tokenizer.decode
        log_probs = [x for answer in drawn for x in answer.log_probs]
        return replace(
            group,
            answers=tuple(np.array(answer.tokens, dtype=np.int32) for answer in drawn),
            stopped=np.array([answer.stopped for answer in drawn]),
            by_token={"sampler": np.array(log_probs, dtype=np.float32)},
            asked=decode(group.prompt.tolist()),
            texts=tuple(decode(answer.tokens, skip_special_tokens=True) for answer in drawn),
        )


def _scored(group: Group, graded: Graded, first: int) -> Group:
    """The group with its part of the scores, which begins at `first`."""
    part = slice(first, first + len(group))
    return replace(
        group,
        rewards=graded.rewards[part].astype(np.float32),
        scores={name: each[part].astype(np.float32) for name, each in graded.scores.items()},
        ungraded=sum(i in graded.failures for i in range(*part.indices(part.stop))),
    )


def _mixed(*parts: int) -> int:
    """A seed of 63 bits made of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _ungraded(rollout: int, graded: Graded, number: int) -> str:
    first = next(iter(graded.failures.values()))
    return (
        f"rollout {rollout + 1}: {len(graded.failures)} of {number} answers could not be graded, "
        f"and get nothing for that: {first}"
    )
