"""Embeddings by contrast: a text lies near the one that belongs to it, and far from all others.

    L_i = - log exp(s(q_i, d_i) / t) / sum_j exp(s(q_i, d_j) / t),    s the cosine

The sum runs over the positives and negatives of all rows of the step, without other rows' positives
that are the same text. InfoNCE, arXiv:1807.03748, eq. 4, with the other answers of a
step as negatives, arXiv:1705.00652, eq. 4. With `dims` the sum over the first numbers of each
vector as well, Matryoshka, arXiv:2205.13147, eq. 1 with weights of 1.

A step may take several passes, and every text of it is a negative of every row. So all vectors are
made once without a gradient (`ahead`), and each pass then puts its own, with their gradient, in the
place of those: the gradients of the passes add up to that of the whole step, arXiv:2101.06983
(GradCache), section 3. Held-out rows are one step: each is looked for among all of them. Dropout
draws anew in each pass; without it the cut into passes changes nothing.

Legend: U rows of the step, M negatives of the step, K = U + M texts, D width of the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.encoded import Encoded, together
from tunesmith.data.example import Batch
from tunesmith.data.row import Related, Text
from tunesmith.data.template import Renderer
from tunesmith.data.whole import Whole
from tunesmith.methods.base import LossSum, summed
from tunesmith.models.heads import Head, pad_of
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset()
ANCHORS, POSITIVES, NEGATIVES = "anchors", "positives", "negatives"
"""Names of the vectors that `ahead` joins over a step."""
SAME = ("same 0", "same 1")
"""Numbers of a row that tell positives apart: two of 24 bits, which float32 holds exactly."""

LEVEL = 1e-6
"""Cosines so near each other are the same: equal vectors differ by that in a matrix product."""


class Config(Section):
    """Keys of `method` with `name: embed`."""

    name: Literal["embed"] = "embed"
    """Train vectors of texts, from pairs that belong together."""
    temperature: float = Field(0.05, gt=0)
    """Divides the cosines; smaller looks more at the nearest of the others."""
    pooling: Literal["mean", "last"] = "mean"
    """A text's vector: the mean of the states of its tokens, or the last one."""
    dims: tuple[PositiveInt, ...] = ()
    """Let the first numbers of a vector be one too, at these lengths: [64, 128]."""


def head(config: Config) -> Head:
    """No head: the states of the decoder."""
    return Head("states", pooling=config.pooling)


@dataclass(frozen=True)
class Reader:
    """The encoder: anchor, positive and negatives as the sequences of one example."""

    whole: Whole
    shapes = frozenset({"related"})

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides tokens and numbers."""
        return self.whole.fingerprint("embed")

    def look_ahead(self, contents: Sequence[Related]) -> None:
        """Nothing is prepared ahead."""

    def examples(self, content: Related) -> list[Encoded]:
        """The one example of a row; RowProblem for a text that has no token."""
        texts = (content.anchor, content.positive, *content.negatives)
        return [together([self.whole(Text(text)) for text in texts], identity(content.positive))]


def identity(text: str) -> dict[str, float]:
    """Numbers that are equal for equal texts alone."""
    digest = sha256(text.encode()).digest()
    return {n: float(int.from_bytes(digest[3 * i : 3 * i + 3])) for i, n in enumerate(SAME)}


def encoder(renderer: Renderer, config: Config) -> Reader:
    """Texts as they stand."""
    return Reader(Whole(renderer, pad_of(renderer.tokenizer)))


@torch.no_grad()
def ahead(policy: Policy, batch: Batch, config: Config) -> dict[str, Tensor]:
    """The vectors of a batch by name, and which positives are the same text."""
    own = _vectors(policy, batch, config)
    return own | {f"all {name}": batch.numbers[name].to(policy.device) for name in SAME}


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The loss summed over the rows of a batch, with the gradient of the whole step.

    A batch that was not told what `ahead` finds is taken for the whole step.
    """
    own, step, start = _step(policy, batch, config)
    found = judged(*step, config)
    mine = summed({name: values[start : start + len(own)] for name, values in found.items()})
    whole = found["loss"].sum()
    # The value is that of these rows; the gradient that of all, through the vectors of these.
    total = mine.total.detach() + (whole - whole.detach())
    return LossSum(total, mine.count, mine.figures, mine.each)


def measure(policy: Policy, batch: Batch, config: Config) -> dict[str, Tensor]:
    """(U,) of each row of a batch, looked for among the texts of the step; see `judged`."""
    own, step, start = _step(policy, batch, config)
    return {k: v[start : start + len(own)] for k, v in judged(*step, config).items()}


def judged(
    anchors_UD: Tensor, texts_KD: Tensor, same_UK: Tensor, config: Config
) -> dict[str, Tensor]:
    """What `measure` gives, from vectors.

    Args:
        anchors_UD: (U, D) float32, of any length.
        texts_KD: (K, D), the positive of each row first, in order, negatives behind.
        same_UK: (U, K) bool, true where a text is the positive of the row word for word, but for
            the row's own.
        config: Of the method.

    Returns:
        loss, differentiable; recall@1, 1 where no text is nearer than the positive; mrr, one over
        its rank. Texts that are as near share the places.
    """
    sizes = [*config.dims, anchors_UD.shape[1]]
    losses = [_contrast(anchors_UD[:, :n], texts_KD[:, :n], same_UK, config) for n in sizes]
    cosines_UK = losses[-1][1].detach()
    ahead_UK = cosines_UK - cosines_UK.diagonal()[:, None]
    nearer_U = (ahead_UK > LEVEL).sum(1)
    level_U = (ahead_UK.abs() <= LEVEL).sum(1) - 1
    return {
        "loss": torch.stack([each for each, _ in losses]).sum(0),
        "recall@1": (nearer_U == 0) / (1.0 + level_U),
        "mrr": 1 / (1 + nearer_U + level_U / 2),
    }


def _contrast(
    anchors_UD: Tensor, texts_KD: Tensor, same_UK: Tensor, config: Config
) -> tuple[Tensor, Tensor]:
    """(U,) loss of each row, and the (U, K) cosines, -inf for texts that do not count."""
    cosines_UK = F.normalize(anchors_UD, dim=1) @ F.normalize(texts_KD, dim=1).t()
    cosines_UK = cosines_UK.masked_fill(same_UK, -torch.inf)
    own_U = torch.arange(len(anchors_UD), device=anchors_UD.device)
    return F.cross_entropy(cosines_UK / config.temperature, own_U, reduction="none"), cosines_UK


def _vectors(policy: Policy, batch: Batch, config: Config) -> dict[str, Tensor]:
    """(., D) float32 of the anchors, positives and negatives of a batch, in order."""
    states_RD = policy.sequence_states(batch, config.pooling).float()
    starts = [0, *accumulate(batch.units)][:-1]
    rest = [s + n for s, size in zip(starts, batch.units, strict=True) for n in range(2, size)]
    places = {ANCHORS: starts, POSITIVES: [start + 1 for start in starts], NEGATIVES: rest}
    return {name: states_RD[place] for name, place in places.items()}


def _step(
    policy: Policy, batch: Batch, config: Config
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], int]:
    """The anchors of a batch; anchors, texts and sameness of its step; where its rows begin."""
    own = _vectors(policy, batch, config)
    told = batch.numbers
    if ANCHORS not in told:
        told = own | {f"all {name}": told[name].to(policy.device) for name in SAME}
        told |= {f"{name} from": torch.zeros(()) for name in own}
    put = {name: _put(told[name], own[name], int(told[f"{name} from"])) for name in own}
    texts_KD = torch.cat([put[POSITIVES], put[NEGATIVES]])
    same_UK = _same(told, len(texts_KD))
    return own[ANCHORS], (put[ANCHORS], texts_KD, same_UK), int(told[f"{ANCHORS} from"])


def _put(all_ND: Tensor, own_nD: Tensor, start: int) -> Tensor:
    """The vectors of a step, those of this batch with their gradient."""
    return torch.cat([all_ND[:start], own_nD, all_ND[start + len(own_nD) :]])


def _same(told: Mapping[str, Tensor], num_texts: int) -> Tensor:
    """(U, K) where another row's positive is the same text; negatives are not asked."""
    pairs = [told[f"all {name}"][:, None] == told[f"all {name}"][None] for name in SAME]
    equal_UU = pairs[0] & pairs[1]
    equal_UU.fill_diagonal_(False)
    return F.pad(equal_UU, (0, num_texts - len(equal_UU)))
