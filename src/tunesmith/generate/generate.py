"""Greedy answers to many prompts at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from tunesmith.generate.options import GenerateOptions
from tunesmith.generate.session import Session, answering, check_prompts, max_tokens


def generate(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], options: GenerateOptions
) -> list[list[int]]:
    """The most probable next token, again and again, for every prompt.

    Prompts of like length share a batch, and finished rows are dropped from it, so neither padding
    nor finished rows cost much. In fp32 the tokens are those that each prompt would get
    alone; in a lower precision two tokens that are nearly as probable may change places with the
    size of the batch.

    Args:
        model: A causal language model of transformers, wrapped by PEFT or not. Its modes of
            training are put back afterwards.
        prompts: Token ids, without padding. Nothing is added, no BOS either.
        options: Lengths, stop tokens and batch size.

    Returns:
        The new tokens of each prompt, in the order of `prompts`, the stop token only with
        `keep_stop`. An answer also ends where the model has no more positions.

    Raises:
        DataError: A prompt is empty or fills the model's positions by itself.
    """
    longest = max_tokens(model)
    check_prompts(prompts, longest)
    answers: list[list[int]] = [[] for _ in prompts]
    # Longest first: if a batch does not fit into memory, it is the first one that says so.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    with answering(model):
        for start in range(0, len(order), options.batch_rows):
            rows = order[start : start + options.batch_rows]
            batch = [
                _Row(prompts[i], answers[i], _room(prompts[i], longest, options)) for i in rows
            ]
            _answer(Session(model, [row.prompt for row in batch], options.pad_id), batch, options)
    return answers


@dataclass(slots=True)
class _Row:
    """A prompt, the answer so far, and how long that may become."""

    prompt: Sequence[int]
    answer: list[int]
    room: int
    finished: bool = field(default=False)

    def take(self, token: int, options: GenerateOptions) -> None:
        """Write `token` down and see whether it was the last one."""
        stopped = token in options.stop_ids
        if not stopped or options.keep_stop:
            self.answer.append(token)
        self.finished = stopped or len(self.answer) >= self.room


def _room(prompt: Sequence[int], longest: int | None, options: GenerateOptions) -> int:
    if longest is None:
        return options.max_new_tokens
    return min(options.max_new_tokens, longest - len(prompt))


def _answer(session: Session, batch: list[_Row], options: GenerateOptions) -> None:
    """Generate until every row of `batch` is finished."""
    while True:
        tokens_B = torch.argmax(session.logits(), dim=-1)
        for row, token in zip(batch, tokens_B.tolist(), strict=True):
            row.take(token, options)
        going = [i for i, row in enumerate(batch) if not row.finished]
        if not going:
            return
        session.append(tokens_B)
        if len(going) < len(batch):
            session.keep(going)
            batch = [batch[i] for i in going]
