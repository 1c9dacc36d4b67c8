"""Several answers to each prompt, drawn, with their log-probabilities: what policy methods need."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.generate.detect import open_session
from tunesmith.generate.generate import ask, cut, longest_first
from tunesmith.generate.loop import Row, answer
from tunesmith.generate.options import GenerateOptions, Sampling
from tunesmith.generate.sampling import draw, uniforms
from tunesmith.models.resting import resting


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        tokens: Token ids, the stop token only with `keep_stop`.
        log_probs: Natural logarithm of the probability of each of `tokens`, at the temperature it
            was drawn with (1 if greedy), over the whole vocabulary.
        stopped: Whether a stop token ended it, rather than its length.
    """

    tokens: list[int]
    log_probs: list[float]
    stopped: bool


def answers(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    options: GenerateOptions,
    sampling: Sampling,
    num_answers: int = 1,
) -> list[list[Answer]]:
    """Draw `num_answers` answers to every prompt, computing each prompt once.

    Which tokens an answer gets depends on the seed, on the number of its prompt and on its own
    number, not on what is generated beside it.

    Args:
        model: A causal language model of transformers, wrapped by PEFT or not.
        prompts: Token ids, without padding.
        options: Lengths, stop tokens and rows side by side.
        sampling: Temperature, nucleus and seed.
        num_answers: Answers to each prompt, 1 or more. If that is more than `batch_rows`, a prompt
            is computed once for every `batch_rows` of them.

    Returns:
        For each prompt its answers.

    Raises:
        DataError: A prompt is empty or fills the model's positions by itself.
        ValueError: `num_answers` is less than 1.
    """
    if num_answers < 1:
        raise ValueError(f"num_answers: got {num_answers}; expected at least 1")
    asked = ask(model, prompts, options, num_answers)
    if asked:
        with resting(model):
            session = open_session(model, asked, options)
            answer(session, longest_first(asked), _Draws(sampling), options)
    drawn = [_answer(row, options) for one in asked for row in one.rows]
    return [drawn[i : i + num_answers] for i in range(0, len(drawn), num_answers)]


def _answer(row: Row, options: GenerateOptions) -> Answer:
    tokens = cut(row, options)
    return Answer(tokens, row.log_probs[: len(tokens)], row.stopped)


class _Draws:
    """Chooses the tokens of rows; holds the uniform numbers of those under way."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._uniforms: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, logits_NV: Tensor, rows: list[Row]) -> tuple[list[int], list[float]]:
        numbers = [self._number(row) for row in rows]
        uniforms_N = torch.tensor(numbers, dtype=torch.float64, device=logits_NV.device)
        tokens_N, log_probs_N = draw(logits_NV, uniforms_N, self._sampling)
        return tokens_N.tolist(), log_probs_N.tolist()

    def _number(self, row: Row) -> float:
        if row.stream not in self._uniforms:
            self._uniforms[row.stream] = uniforms(self._sampling.seed, row.stream, row.room)
        return float(self._uniforms[row.stream][len(row.tokens)])
