"""Which session a model gets: found out by trying, never by the model's name."""

from collections.abc import Sequence
from itertools import takewhile
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.generate.attention import OtherAttention
from tunesmith.generate.loop import Asked
from tunesmith.generate.options import GenerateOptions
from tunesmith.generate.padded import PaddedSession
from tunesmith.generate.session import Prompt, Session
from tunesmith.models import soft
from tunesmith.models.soft_wrapper import installed

KINDS = frozenset(("full_attention", "sliding_attention"))
"""Layers whose whole state is keys and values that the attention function is given."""

CLOSE = {torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.2}
"""Largest distance between the logits of the two paths, relative to their spread. Mixing up two
prompts moves logits by about the spread itself; rounding in bf16 moved those of the starter by
0.02 to 0.08 of it on either path, and by more after special tokens.
"""

WORTH = 128
"""Tokens that a shared prefix must save: it takes a pass over the weights of its own."""

LEAST_BYTES = 1 << 30
"""The cache may take as much memory as the weights do, and this much in any case; with long answers
of a small model, or a long context, fewer rows than asked for are then under way."""

_found: WeakKeyDictionary[nn.Module, int | None] = WeakKeyDictionary()


def open_session(
    model: PreTrainedModel, asked: Sequence[Asked], options: GenerateOptions
) -> Session | PaddedSession:
    """A session without padding where the model's own answers come out of it, else with padding.

    Args:
        model: A causal language model, wrapped by PEFT or not, in eval mode.
        asked: What will be answered; at least one.
        options: Rows at a time, and what pads.
    """
    model = installed(model)
    max_rows = min(options.batch_rows, sum(len(one.rows) for one in asked))
    per_token = _bytes_per_token(model)
    if per_token is None:
        return PaddedSession(model, max_rows, options.pad_id)
    # The last token of an answer is never read.
    longest = max(len(one.ids) + one.rows[0].room - 1 for one in asked) + soft.num_ahead(model)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    most = max(LEAST_BYTES, weights) // (per_token * longest)
    # Rows of one prompt begin together, so there is a place for each of them in any case.
    together = max(len(one.rows) for one in asked)
    return Session(model, max(min(max_rows, most), together), longest, _prefix(asked))


def _prefix(asked: Sequence[Asked]) -> Sequence[int]:
    """What all prompts begin with, such as a system message, if computing it once is worth it."""
    texts = [list(one.ids) for one in asked]
    # In the order of a dictionary, what the first and the last share all between them share.
    pairs = zip(min(texts), max(texts), strict=False)
    prefix = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    # A prompt keeps one token at least: what follows it is the first of the answer.
    prefix = prefix[: min(map(len, texts)) - 1]
    return prefix if len(prefix) * (len(asked) - 1) >= WORTH else []


def fits(model: PreTrainedModel) -> bool:
    """Whether `Session` computes what `model` does; tried once per model, on a few tokens."""
    return _bytes_per_token(model) is not None


def _bytes_per_token(model: PreTrainedModel) -> int | None:
    """What a token of a row takes in the cache of a `Session`; None where that does not fit."""
    if model not in _found:
        with soft.off(model):
            _found[model] = _tried(model)
    return _found[model]


def _tried(model: PreTrainedModel) -> int | None:
    config = model.config.get_text_config(decoder=True)
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    if not getattr(model, "_supports_attention_backend", False) or not KINDS.issuperset(kinds):
        return None
    ids = [i * config.vocab_size // 9 for i in range(1, 9)]
    one, other = ids[:4], [*ids[:2], ids[5]]
    try:
        session = Session(model, 2, prefix=ids[:2])
        first = session.step([], [Prompt(one), Prompt(other)])
        then = session.step([ids[6], ids[7]])
    # The latter two: it does not pass on what the step is, or its attention has no layer's number.
    except (OtherAttention, TypeError, AttributeError):
        return None
    windows = session.last.windows
    # A layer that slides must have said so here: transformers would put it into the mask.
    told = all(windows.get(i) is not None for i, kind in enumerate(kinds) if "sliding" in kind)
    seen = session.cache.layers == set(range(len(kinds)))
    texts = [one, other, [*one, ids[6]], [*other, ids[7]]]
    expected = torch.cat([_plain(model, text) for text in texts])
    same = _close(torch.cat([first, then]), expected)
    return session.cache.bytes_per_token if seen and told and same else None


@torch.no_grad()
def _plain(model: PreTrainedModel, ids: list[int]) -> Tensor:
    """(1, V) logits after `ids`, by the model's own attention."""
    return model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[:, -1]


def _close(got: Tensor, expected: Tensor) -> bool:
    spread = expected.float().std(-1).mean()
    distance = (got.float() - expected.float()).square().mean(-1).sqrt().max()
    return bool(distance <= CLOSE.get(expected.dtype, 0.0) * spread)
