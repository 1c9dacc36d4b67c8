"""What the methods of two answers share: log-probabilities by side, and what they tell.

Legend: P pairs of a batch. A batch has two sequences a pair, the chosen answer first.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.example import Batch
from tunesmith.data.preferences import PairEncoder
from tunesmith.data.template import Renderer
from tunesmith.models.policy import Policy


@dataclass(frozen=True, slots=True)
class Sides:
    """A number for each answer, in nats, and how many tokens the answer has.

    Attributes:
        chosen_P: (P,) float32 of the better answers.
        rejected_P: (P,) float32 of the others.
        chosen_tokens_P: (P,) float32, trained tokens of the better answers.
        rejected_tokens_P: (P,) float32 of the others.
    """

    chosen_P: Tensor
    rejected_P: Tensor
    chosen_tokens_P: Tensor
    rejected_tokens_P: Tensor

    @property
    def difference_P(self) -> Tensor:
        """(P,) chosen less rejected."""
        return self.chosen_P - self.rejected_P

    def times(self, factor: float) -> "Sides":
        """The same, scaled."""
        return replace(self, chosen_P=factor * self.chosen_P, rejected_P=factor * self.rejected_P)

    def per_token(self) -> "Sides":
        """The mean over the tokens of each answer in place of the sum."""
        return replace(
            self,
            chosen_P=self.chosen_P / self.chosen_tokens_P,
            rejected_P=self.rejected_P / self.rejected_tokens_P,
        )


def encoder(renderer: Renderer, config: Section) -> PairEncoder:
    """Both answers of a row as one example."""
    return PairEncoder(renderer)


def log_probs(policy: Policy, batch: Batch) -> Sides:
    """Log-probability of each answer, summed over its tokens; differentiable."""
    sums_R = policy.sequence_log_probs(batch)
    tokens_R = torch.tensor(batch.targets_per_row, dtype=sums_R.dtype, device=sums_R.device)
    return Sides(sums_R[::2], sums_R[1::2], tokens_R[::2], tokens_R[1::2])


def less_reference(sides: Sides, batch: Batch) -> Sides:
    """Log-ratios: log p of the policy less that of the model as it was before step 1."""
    reference_R = batch.numbers["reference"]
    return replace(
        sides,
        chosen_P=sides.chosen_P - reference_R[::2],
        rejected_P=sides.rejected_P - reference_R[1::2],
    )


def logistic(logits_P: Tensor, smoothing: float) -> Tensor:
    """(P,) -log sigmoid, where the labels are wrong with probability `smoothing`."""
    right_P, wrong_P = F.logsigmoid(logits_P), F.logsigmoid(-logits_P)
    return -(1 - smoothing) * right_P - smoothing * wrong_P


def imitation(sides: Sides) -> Tensor:
    """(P,) -log p of the chosen answers, the mean over the tokens of each."""
    return -sides.chosen_P / sides.chosen_tokens_P


def told(loss_P: Tensor, rewards: Sides, sides: Sides) -> dict[str, Tensor]:
    """The loss of each pair with the figures that every method of pairs tells.

    Args:
        loss_P: (P,) differentiable.
        rewards: What the loss takes for the worth of each answer.
        sides: Log-probabilities, summed.

    Returns:
        loss: as given; margin: reward of the chosen less that of the rejected answer; accuracy: 1
        where it is above 0, one half where it is 0; chosen_log_prob and rejected_log_prob in nats.
    """
    margin_P = rewards.difference_P.detach()
    return {
        "loss": loss_P,
        "margin": margin_P,
        "accuracy": (margin_P.sign() + 1) / 2,
        "chosen_log_prob": sides.chosen_P.detach(),
        "rejected_log_prob": sides.rejected_P.detach(),
    }
