"""One answer, token by token, for a person who is reading along."""

from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor
from transformers import PreTrainedModel

from tunesmith.generate.options import GREEDY, GenerateOptions, Sampling
from tunesmith.generate.session import Session, answering, check_prompts, max_tokens


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
        sampling: Greedy by default.

    Yields:
        Token ids; the stop token only with `keep_stop`.

    Raises:
        DataError: At once, not at the first token: the prompt is empty or fills the positions.
    """
    longest = max_tokens(model)
    check_prompts([prompt], longest)
    room = options.max_new_tokens if longest is None else longest - len(prompt)
    return _tokens(Session(model, [prompt], options.pad_id), options, sampling, room)


def _tokens(
    session: Session, options: GenerateOptions, sampling: Sampling, room: int
) -> Iterator[int]:
    draw = Draw(sampling, session.device)
    with answering(session.model):
        for _ in range(min(room, options.max_new_tokens)):
            token_B = draw(session.logits())
            token = int(token_B)
            if token not in options.stop_ids or options.keep_stop:
                yield token
            if token in options.stop_ids:
                return
            session.append(token_B)


class Draw:
    """Picks the next token of each row; holds the random state of one answer.

    Args:
        sampling: Temperature, nucleus and seed.
        device: Where the logits are.
    """

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        self._sampling = sampling
        self._generator = Generator(device).manual_seed(sampling.seed)

    @torch.inference_mode()
    def __call__(self, logits_BV: Tensor) -> Tensor:
        """(B,) int64 token ids."""
        if self._sampling.temperature == 0.0:
            return torch.argmax(logits_BV, dim=-1)
        # Seen from the best logit, so that a very low temperature overflows for the others alone.
        below_BV = logits_BV.double() - logits_BV.amax(dim=-1, keepdim=True)
        scaled_BV = below_BV / self._sampling.temperature
        probabilities_BV = nucleus(torch.softmax(scaled_BV, dim=-1), self._sampling.top_p)
        return torch.multinomial(probabilities_BV, 1, generator=self._generator).squeeze(1)


def nucleus(probabilities_BV: Tensor, top_p: float) -> Tensor:
    """Zero for every token outside the smallest set that reaches `top_p` (arXiv:1904.09751, 3.1).

    Args:
        probabilities_BV: (B, V), each row adds up to 1.
        top_p: In (0, 1]. The most probable token always stays.

    Returns:
        (B, V) weights, not normalised anew.
    """
    if top_p >= 1.0:
        return probabilities_BV
    sorted_BV, order_BV = torch.sort(probabilities_BV, dim=-1, descending=True, stable=True)
    before_BV = sorted_BV.cumsum(dim=-1) - sorted_BV
    kept_BV = torch.where(before_BV < top_p, sorted_BV, 0.0)
    return torch.zeros_like(probabilities_BV).scatter(-1, order_BV, kept_BV)
