"""Greedy answers to many prompts at once."""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.generate.detect import open_session
from tunesmith.generate.loop import Asked, Row, answer
from tunesmith.generate.modes import check_prompts, max_tokens
from tunesmith.generate.options import GenerateOptions
from tunesmith.models.narrow import computing
from tunesmith.models.resting import resting


def generate(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], options: GenerateOptions
) -> list[list[int]]:
    """The most probable next token, again and again, for every prompt.

    Where the model allows it nothing is padded, and a prompt takes the place of an answer as soon
    as that ends. In fp32 the tokens are those that each prompt would get alone; in a lower
    precision two tokens that are nearly as probable may change places with what is computed beside
    them.

    Args:
        model: A causal language model of transformers, wrapped by PEFT or not. Its modes of
            training are put back afterwards.
        prompts: Token ids, without padding. Nothing is added, no BOS either.
        options: Lengths, stop tokens and rows side by side.

    Returns:
        The new tokens of each prompt, in the order of `prompts`, the stop token only with
        `keep_stop`. An answer also ends where the model has no more positions.

    Raises:
        DataError: A prompt is empty or fills the model's positions by itself.
    """
    asked = ask(model, prompts, options)
    if asked:
        with resting(model), computing(model):
            answer(open_session(model, asked, options), longest_first(asked), _best, options)
    return [cut(row, options) for one in asked for row in one.rows]


def ask(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    options: GenerateOptions,
    num_answers: int = 1,
) -> list[Asked]:
    """Empty rows for each prompt, in order, no more than `batch_rows` in one piece.

    Raises:
        DataError: A prompt is empty or fills the model's positions by itself.
    """
    longest = max_tokens(model)
    check_prompts(prompts, longest)
    asked: list[Asked] = []
    for number, ids in enumerate(prompts):
        room = options.max_new_tokens
        if longest is not None:
            room = min(room, longest - len(ids))
        rows = [Row(room, (number, i)) for i in range(num_answers)]
        starts = range(0, num_answers, options.batch_rows)
        asked += [Asked(ids, rows[i : i + options.batch_rows]) for i in starts]
    return asked


def longest_first(asked: Sequence[Asked]) -> list[Asked]:
    """So that rows of like length share the steps, and what does not fit fails at once."""
    return sorted(asked, key=lambda one: len(one.ids), reverse=True)


def cut(row: Row, options: GenerateOptions) -> list[int]:
    """The tokens of a finished row, with the stop token only if the caller keeps it."""
    return row.tokens if options.keep_stop or not row.stopped else row.tokens[:-1]


def _best(logits_NV: Tensor, rows: list[Row]) -> tuple[list[int], None]:
    # In bf16 the search alone takes five times as long.
    return logits_NV.float().argmax(-1).tolist(), None
