"""One answer, token by token, for a person who is reading along."""

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel

from tunesmith.generate.detect import open_session
from tunesmith.generate.generate import ask
from tunesmith.generate.loop import Asked
from tunesmith.generate.options import GREEDY, GenerateOptions, Sampling
from tunesmith.generate.sampling import draw, uniforms
from tunesmith.generate.session import Prompt
from tunesmith.models.resting import resting


def stream(
    model: PreTrainedModel,
    prompt: Sequence[int],
    options: GenerateOptions,
    sampling: Sampling = GREEDY,
) -> Iterator[int]:
    """Yield the tokens of an answer as they are made.

    The model stays in eval mode until the iterator is exhausted or closed.

    Args:
        model: A causal language model of transformers, wrapped by PEFT or not.
        prompt: Token ids.
        options: Lengths and stop tokens; `batch_rows` plays no part.
        sampling: Greedy by default. The tokens are those of the first answer that `answers` draws
            for this prompt alone.

    Yields:
        Token ids; the stop token only with `keep_stop`.

    Raises:
        DataError: At once, not at the first token: the prompt is empty or fills the positions.
    """
    (asked,) = ask(model, [prompt], options)
    return _tokens(model, asked, options, sampling)


def _tokens(
    model: PreTrainedModel, asked: Asked, options: GenerateOptions, sampling: Sampling
) -> Iterator[int]:
    (row,) = asked.rows
    numbers = torch.from_numpy(uniforms(sampling.seed, row.stream, row.room)).to(model.device)
    with resting(model):
        session = open_session(model, [asked], options)
        logits_1V = session.step([], [Prompt(asked.ids)])
        while True:
            token = int(draw(logits_1V, numbers[len(row.tokens), None], sampling)[0])
            row.take(token, options.stop_ids)
            if not row.stopped or options.keep_stop:
                yield token
            if row.finished:
                return
            logits_1V = session.step([token])
