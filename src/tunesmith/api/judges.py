"""The models that graders may ask: local judges, and the model that is graded itself."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunesmith.api.answer import Messages, Speaker, open_speaker
from tunesmith.api.learner import Learner
from tunesmith.api.likelihood import likelihoods
from tunesmith.data.template import Renderer
from tunesmith.errors import DataError, RecipeError
from tunesmith.evaluate.means import Drawing, Judge, LogLikelihoods, Means, Unanswered
from tunesmith.evaluate.task import TaskRows
from tunesmith.generate.answers import answers
from tunesmith.generate.modes import max_tokens
from tunesmith.generate.options import GenerateOptions, Sampling
from tunesmith.models.policy import Policy
from tunesmith.models.resolve import resolve
from tunesmith.recipe import Recipe

MAX_NEW_TOKENS = 512
"""Of a judge's answer, where its grader says nothing."""

BASE = "base"
"""The judge that is the base of the run, its adapter off."""


@dataclass(frozen=True)
class LocalJudge:
    """A model in memory that judges.

    Attributes:
        speaker: It.
        identity: Of its weights: answers are kept under it.
        asking: A context in which it answers as that model: its adapter off, for the base.
    """

    speaker: Speaker
    identity: str
    asking: Callable[[], AbstractContextManager[Any]] = nullcontext

    def answer(self, questions: Sequence[Messages], drawing: Drawing) -> list[str | Unanswered]:
        """An answer to each conversation; one that the model cannot take is unanswered."""
        prompts: list[list[int] | Unanswered] = [self._prompt(each) for each in questions]
        asked = [prompt for prompt in prompts if isinstance(prompt, list)]
        with self.asking():
            said = iter(self._texts(asked, drawing))
        return [next(said) if isinstance(prompt, list) else prompt for prompt in prompts]

    def _prompt(self, question: Messages) -> list[int] | Unanswered:
        try:
            ids = self.speaker.ids(question)
        except ValueError as error:
            return Unanswered(str(error).splitlines()[0])
        longest = max_tokens(self.speaker.model)
        if longest is not None and len(ids) >= longest:
            return Unanswered(f"a question of {len(ids):,} tokens to a judge that sees {longest:,}")
        return ids

    def _texts(self, prompts: list[list[int]], drawing: Drawing) -> list[str]:
        max_new_tokens = drawing.max_tokens or MAX_NEW_TOKENS
        if not drawing.temperature:
            return self.speaker.texts(prompts, max_new_tokens)
        options = GenerateOptions(max_new_tokens, self.speaker.stop_ids, self.speaker.pad)
        top_p = 1.0 if drawing.top_p is None else drawing.top_p
        sampling = Sampling(drawing.temperature, top_p, seed=drawing.seed or 0)
        drawn = answers(self.speaker.model, prompts, options, sampling)
        return [self.speaker.text(each[0].tokens) for each in drawn]


def means_of(speaker: Speaker, policy: Policy, base: Callable[[], Judge]) -> Means:
    """What graders of this model may ask.

    Args:
        speaker: The model that is graded.
        policy: The same, for probabilities.
        base: Opens the judge `base`.
    """

    @cache
    def open_judge(name: str) -> Judge:
        if name == BASE:
            return base()
        return LocalJudge(open_speaker(name), f"local {resolve(name, None).sha256}")

    return Means(open_judge, log_likelihoods(policy, speaker.tokenizer, speaker.pad))


def bind_tasks(
    tasks: Sequence[TaskRows], recipe: Recipe, learner: Learner, renderer: Renderer
) -> list[TaskRows]:
    """The tasks of a run with the models that their graders may ask, opened.

    Raises:
        TunesmithError: One of them cannot be opened.
    """
    means = means_in(recipe, learner, renderer)
    return [task.asking(means) for task in tasks]


def means_in(recipe: Recipe, learner: Learner, renderer: Renderer) -> Means:
    """What graders may ask while a run goes on."""
    speaker = Speaker(learner.attached.model, renderer.tokenizer, renderer.stop_ids)

    def base() -> Judge:
        source = resolve(recipe.model.base, recipe.model.revision)
        return base_judge(speaker, source.sha256, learner.attached.disabled)

    return means_of(speaker, learner.policy, base)


def base_judge(
    speaker: Speaker, sha256: str, disabled: Callable[[], AbstractContextManager[Any]] | None
) -> Judge:
    """The base of a model as its judge.

    Args:
        speaker: The model.
        sha256: Of the base's files.
        disabled: Makes a context without the adapter.

    Raises:
        RecipeError: The base's own weights are trained, so it is no longer there.
    """
    if disabled is None:
        raise RecipeError(
            "grader: model",
            got="base, where the base's own weights are trained",
            expected="a judge that stays as it is",
            hint="name the base itself, such as starter or its folder",
        )
    return LocalJudge(replace(speaker, adapter=None), f"local {sha256}", disabled)


def log_likelihoods(
    policy: Policy, tokenizer: PreTrainedTokenizerBase, pad_id: int
) -> LogLikelihoods:
    """Log-probabilities of texts behind prompts, by the model as it is when they are asked."""

    def measure(pairs: Sequence[tuple[Sequence[int], str]]) -> list[tuple[float, int]]:
        texts = tokenizer([text for _, text in pairs], add_special_tokens=False)["input_ids"]
        asked = [(prompt, ids) for (prompt, _), ids in zip(pairs, texts, strict=True)]
        for prompt, ids in asked:
            if not prompt or not ids:
                raise DataError(
                    "choice", got="an empty prompt or option", expected="both, in tokens"
                )
        return [(each.log_prob, each.num_tokens) for each in likelihoods(policy, asked, pad_id)]

    return measure
