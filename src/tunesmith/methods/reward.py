"""A reward model: a number for an answer, larger for the better one of two.

    L = - log sigma(r_c - r_r - m)  +  c (r_c + r_r)^2

r is a linear head on the state of the last token of prompt and answer. Learning to summarize,
arXiv:2009.01325, eq. 1 (Bradley-Terry); m is how much better the row says the answer is, Llama 2,
arXiv:2307.09288, eq. 2; c keeps rewards about zero, which the first term leaves open, "Helping or
Herding", arXiv:2312.09244, eq. 2. The mean over pairs is taken by the loop.

Legend: P pairs of a batch. A batch has two sequences a pair, the chosen answer first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.encoded import Encoded, together
from tunesmith.data.example import Batch
from tunesmith.data.preferences import MARGIN, PairEncoder
from tunesmith.data.row import Content, Preference
from tunesmith.data.template import Renderer
from tunesmith.data.whole import Whole
from tunesmith.methods.base import LossSum, summed
from tunesmith.models.heads import Head, pad_of
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset()


class Config(Section):
    """Keys of `method` with `name: reward`."""

    name: Literal["reward"] = "reward"
    """Train a head that says how good an answer is, from pairs of which one is better."""
    margins: bool = False
    """Ask for a larger distance where the rows say so, in their `margin` or two scores."""
    center: float = Field(0.0, ge=0)
    """Weight of the squared sum of both rewards, which keeps them about zero; 0.01 is usual."""


def head(config: Config) -> Head:
    """One score."""
    return Head("scores", ("reward",), "regression")


@dataclass(frozen=True)
class Reader:
    """The encoder: both answers behind their prompt, read as a whole.

    Attributes:
        pairs: Encodes them under the token contract of answers.
        whole: Leaves off what transformers would take for padding.
    """

    pairs: PairEncoder
    whole: Whole
    shapes = PairEncoder.shapes

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides tokens and numbers."""
        return self.whole.fingerprint("reward", self.pairs.fingerprint)

    def look_ahead(self, contents: Sequence[Content]) -> None:
        """Prepare the texts of both sides."""
        self.pairs.look_ahead(contents)

    def examples(self, content: Preference) -> list[Encoded]:
        """The one example of a row; RowProblem as `PairEncoder.examples`."""
        return [self._read(pair) for pair in self.pairs.examples(content)]

    def _read(self, pair: Encoded) -> Encoded:
        stop = pair.parts[0]
        sides = [
            Encoded(pair.input_ids[part], pair.trained[part], 0, pair.truncated)
            for part in (slice(0, stop), slice(stop, None))
        ]
        return together([self.whole.read(side) for side in sides], pair.numbers)


def encoder(renderer: Renderer, config: Config) -> Reader:
    """Pairs of conversations, with margins where the method asks for them."""
    return Reader(
        PairEncoder(renderer, config.margins), Whole(renderer, pad_of(renderer.tokenizer))
    )


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The loss summed over pairs, how many they are, and what `measure` tells."""
    return summed(measure(policy, batch, config))


def measure(policy: Policy, batch: Batch, config: Config) -> dict[str, Tensor]:
    """(P,) of each pair; see `judged`."""
    rewards_R = policy.scores(batch)[:, 0]
    margin_P = batch.numbers[MARGIN] if config.margins else 0.0
    return judged(rewards_R[::2], rewards_R[1::2], margin_P, config.center)


def judged(
    chosen_P: Tensor, rejected_P: Tensor, margin_P: Tensor | float, center: float
) -> dict[str, Tensor]:
    """What `measure` gives, from rewards.

    Args:
        chosen_P: (P,) float32 rewards of the better answers.
        rejected_P: (P,) float32 of the others.
        margin_P: (P,) how far apart they should be, or one number for all.
        center: Weight of the second term.

    Returns:
        loss, differentiable; margin, the difference of the rewards; accuracy, 1 where the better
        answer has more, one half where they are equal; reward, the mean of both.
    """
    difference_P, sum_P = chosen_P - rejected_P, chosen_P + rejected_P
    loss_P = -F.logsigmoid(difference_P - margin_P) + center * sum_P.square()
    told_P = difference_P.detach()
    return {
        "loss": loss_P,
        "margin": told_P,
        "accuracy": (told_P.sign() + 1) / 2,
        "reward": sum_P.detach() / 2,
    }
