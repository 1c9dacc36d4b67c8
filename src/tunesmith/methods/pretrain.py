"""Continued pretraining: the likelihood of every token of raw text, given what stands before it.

    L = - sum_t log p(x_t | x_<t)  /  T

Gururangan et al. 2020 (arXiv:2004.10964, section 3) show what a second phase of pretraining on the
texts of a domain gains on its tasks. Ibrahim et al. 2024 (arXiv:2403.08763) find that it takes a
learning rate that is warmed up anew and decayed again (their section 6.1: `train.warmup`,
`train.schedule: cosine`) and a few per cent of general text (section 6.2: `data.replay`) to keep
what the base knew.

Rows are texts: `{"text": ...}`, .txt and .md files, or folders of these. A document beyond
`data.max_tokens` is cut, not dropped: `data.overlong` has nothing to decide here. Short ones are
packed to the full length, blind to each other. The held-out figures are the perplexity exp(L), and
the bits per byte sum_t -log2 p(x_t | x_<t) / bytes, which can be compared over tokenizers.
"""

import math
from typing import Literal

import numpy as np

from tunesmith.config.section import Section
from tunesmith.data.documents import BYTES, Documents
from tunesmith.data.example import Batch
from tunesmith.data.template import Renderer
from tunesmith.methods.base import LossSum, Values
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset()


class Config(Section):
    """Keys of `method` with `name: pretrain`."""

    name: Literal["pretrain"] = "pretrain"
    """Train on every token of raw text."""
    across: bool = False
    """Lay documents end to end, a stop token between them, and cut that: every example is full, and
    documents in one example see each other. Otherwise documents stay apart."""


def encoder(renderer: Renderer, config: Config) -> Documents:
    """What turns a text into examples."""
    return Documents(renderer, config.across)


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """Cross entropy summed over the predicted tokens, in nats, and how many they are."""
    total, each = policy.losses(batch)
    size = batch.numbers.get(BYTES)
    if size is None:
        return LossSum(total, batch.num_trained, each=each)
    bits = total.detach() / math.log(2)
    figures = {"bits_per_byte": (bits, int(size.sum()))}
    return LossSum(total, batch.num_trained, figures, each)


def overall(values: Values, counts: np.ndarray, numbers: Values) -> dict[str, float]:
    """Perplexity and bits per byte of held-out texts; see `Method.overall`."""
    nats = float(values["loss"].sum())
    figures = {"perplexity": math.exp(min(nats / counts.sum(), 700.0))}
    size = float(numbers[BYTES].sum())
    return {**figures, "bits_per_byte": nats / math.log(2) / size} if size else figures
