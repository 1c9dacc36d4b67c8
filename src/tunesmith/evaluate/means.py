"""What a grader may use besides an output and its row; handed in by whoever holds a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from tunesmith.errors import RecipeError

Messages = list[dict[str, str]]
"""Turns of a conversation, each with `role` and `content`."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a judge writes an answer; None leaves it to the judge.

    Attributes:
        temperature: 0 takes the most probable token each time, as a local judge does by itself.
        top_p: Share of the probability that tokens are drawn from.
        seed: Of what is drawn.
        max_tokens: Longest answer.
        effort: How much a model that reasons may reason.
    """

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    effort: str | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """In place of an answer: why there is none to this question, though there may be to others."""

    reason: str


class Judge(Protocol):
    """A model that answers questions about outputs."""

    identity: str
    """Changes whenever its answers might: what is kept of them is kept under it."""

    def answer(self, questions: Sequence[Messages], drawing: Drawing) -> list[str | Unanswered]:
        """An answer to each conversation, in order.

        Raises:
            TunesmithError: It answers nothing at all.
        """


LogLikelihoods = Callable[[Sequence[tuple[Sequence[int], str]]], list[tuple[float, int]]]
"""For each (token ids of a prompt, text): log p(text | prompt) in nats, and the tokens it has."""


def _no_judge(name: str) -> NoReturn:
    raise RecipeError(
        "grader.model",
        got=f"{name!r}, where no model can be opened",
        expected="a key `endpoint`, or a grader of a task",
    )


def _no_model(pairs: Sequence[tuple[Sequence[int], str]]) -> Any:
    raise RecipeError(
        "grader", got="a grader that asks the model itself, without one", expected="a task"
    )


@dataclass(frozen=True, slots=True)
class Means:
    """Models that graders may ask.

    Attributes:
        open_judge: Gives the local model of a name: `base`, `starter`, a folder, a hub id.
        log_likelihoods: Of the model that is graded, as it is at the time of a call.
    """

    open_judge: Callable[[str], Judge] = _no_judge
    log_likelihoods: LogLikelihoods = _no_model


NO_MEANS = Means()
"""No model at hand: a grader that asks one is an error when it grades."""
