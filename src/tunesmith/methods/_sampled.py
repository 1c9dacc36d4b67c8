"""What the methods share that train on answers which the model draws itself.

Each step, or each few, the model answers prompts as it is then, graders score what it says, and the
method's `lessons` turns scores into numbers for its loss.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tunesmith.config.section import Section
from tunesmith.data.encoded import Encoded
from tunesmith.data.rollout import Group
from tunesmith.data.row import Content, RowProblem, Text
from tunesmith.data.template import Renderer

SOFT_SHARE = 0.2
"""Share of max_new_tokens over which `cut: punish` rises from 0 to 1: DAPO (arXiv:2503.14476,
section 4.1) takes 4,096 of 20,480 tokens."""


class Reward(Section):
    """One of several graders whose scores are added up."""

    grader: str | dict[str, Any]
    """A grader's name, or OpenAI's grader JSON."""
    weight: float = 1.0
    """What its score is multiplied by; below 0 it is a punishment."""
    name: str = ""
    """What figures call it; the grader's own name when left out."""


class Sampled(Section):
    """Keys of every method that draws answers.

    A step takes `train.batch_rows` times `train.accumulate` rows; their prompts are answered.
    """

    grader: str | dict[str, Any] | list[Reward] = "exact"
    """Scores an answer: a grader's name, OpenAI's grader JSON, or a list of {grader, weight}. The
    last answer of the row is the reference."""
    num_answers: int = Field(4, ge=1)
    """Answers drawn to each prompt."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest answer, in tokens; a longer one is cut there."""
    temperature: float = Field(1.0, gt=0)
    """Logits are divided by it, when answers are drawn and in the loss alike."""
    updates: int = Field(1, ge=1)
    """Times that each set of answers is trained on before new ones are drawn."""
    minibatches: int = Field(1, ge=1)
    """Optimizer steps that one pass over a set of answers is dealt out to, by prompts."""
    cut: Literal["train", "mask", "punish"] = "train"
    """Answers that ended by their length: trained as all are; not trained, nor counted; or their
    reward falls towards -1 over the last fifth of max_new_tokens (DAPO, eq. 13)."""

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps made of one set of answers."""
        return self.updates * self.minibatches

    @property
    def most_rounds(self) -> int:
        """Times that prompts are asked for one set of answers, where some taught nothing."""
        return 1

    @property
    def judged_first(self) -> bool:
        """Whether log-probabilities, as training computes them, must be known before a step."""
        return self.steps_per_rollout > 1

    @property
    def compared(self) -> bool:
        """Whether the model before step 1 is asked as well."""
        return False

    @property
    def teacher_tokens(self) -> int:
        """Tokens of a teacher that are asked for in each place of an answer."""
        return 0


class Anchored(Sampled):
    """Keys of those among them that can hold the model near what it was."""

    beta: float | None = Field(None, ge=0)
    """Weight of the divergence from the model before step 1; 0 only watches it, null leaves it."""

    @property
    def compared(self) -> bool:
        """Whether the model before step 1 is asked as well."""
        return self.beta is not None


class Penalised(Anchored):
    """Keys of those whose rewards lose what the model has moved."""

    @property
    def judged_first(self) -> bool:
        """Also where that is to be known."""
        return self.steps_per_rollout > 1 or bool(self.beta)


class Asking:
    """Encodes rows whose last answer is the graders' reference, and not what is trained.

    Args:
        renderer: Of the base.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    @property
    def shapes(self) -> frozenset[str]:
        """Rows with a prompt."""
        return self._renderer.shapes - {"text"}

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the tokens."""
        return f"asking {self._renderer.fingerprint}"

    def look_ahead(self, contents: Sequence[Content]) -> None:
        """Told what comes next."""
        self._renderer.look_ahead(contents)

    def examples(self, content: Content) -> list[Encoded]:
        """The row with its last answer as target; that is where the prompt ends.

        Raises:
            RowProblem: The row has no prompt, or no answer within `data.max_tokens`.
        """
        if isinstance(content, Text):
            raise RowProblem("a text without a prompt", "a prompt and an answer to compare with")
        encoded = self._renderer.encode(content)
        trained = encoded.trained & (np.arange(len(encoded.trained)) >= encoded.prompt_tokens)
        if not encoded.prompt_tokens or not trained.any():
            raise RowProblem(
                "no answer behind the prompt" if encoded.prompt_tokens else "no prompt",
                "a prompt, and an answer that the grader can compare with",
                "raise data.max_tokens" if encoded.truncated else "",
            )
        return [Encoded(encoded.input_ids, trained, encoded.prompt_tokens, encoded.truncated)]


def rewards(group: Group, config: Sampled) -> NDArray[np.float64]:
    """(G,) what each answer is worth, its length counted where that is punished.

    With L the longest answer and l a fifth of it (DAPO, arXiv:2503.14476, eq. 13):

        r + clip((L - l - length) / l, -1, 0)
    """
    given = group.rewards.astype(np.float64)
    if config.cut != "punish":
        return given
    soft = max(SOFT_SHARE * config.max_new_tokens, 1.0)
    over = group.lengths - (config.max_new_tokens - soft)
    return given - np.clip(over / soft, 0.0, 1.0)


def trainable(group: Group, config: Sampled) -> NDArray[np.bool_]:
    """(G,) bool: all answers, or with `cut: mask` those that came to an end."""
    return group.stopped if config.cut == "mask" else np.ones(len(group), dtype=bool)


def penalties(group: Group, beta: float) -> NDArray[np.float64]:
    """(N,) what the rewards of single tokens lose for leaving the model before step 1.

        beta (log pi_old(t) - log pi_ref(t))

    InstructGPT, arXiv:2203.02155, eq. 2; summed over an answer its mean is beta KL(pi || ref).
    """
    if not beta:
        return np.zeros(int(group.lengths.sum()))
    old, reference = (group.by_token[name].astype(np.float64) for name in ("old", "reference"))
    return beta * (old - reference)


def by_answer(values_N: NDArray[np.float64], lengths_G: NDArray[np.int64]) -> NDArray[np.float64]:
    """(G,) sums of the values of each answer's tokens."""
    owner_N = np.repeat(np.arange(len(lengths_G)), lengths_G)
    return np.bincount(owner_N, weights=values_N, minlength=len(lengths_G))


def whitened(
    values: Sequence[NDArray[np.float64]], centre: bool = True
) -> list[NDArray[np.float64]]:
    """Values of several groups, less the mean of all of them, in units of their deviation."""
    every = np.concatenate(values)
    mean = every.mean() if centre else 0.0
    deviation = every.std(ddof=1) if len(every) > 1 else 0.0
    return [(each - mean) / (deviation + 1e-8) for each in values]
