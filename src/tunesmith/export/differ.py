"""How far two models that were asked the same are from each other."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.export.asked import Reply


@dataclass(frozen=True, slots=True)
class Difference:
    """The distance of an export from the trained model, over all compared positions.

    Attributes:
        max_logit_difference: Largest absolute difference of two logits.
        equal_greedy_tokens: Share of the trained model's greedy tokens that the export would have
            chosen too, given the same tokens before them.
        mean_kl: KL(trained || export), nats per position, mean.
        worst_kl: The largest of any position.
        relative_difference: Norm of the difference of the logits over the norm of the logits, both
            without their mean at each position. Unlike the KL it does not shrink for a model that
            is sure of nothing.
    """

    max_logit_difference: float
    equal_greedy_tokens: float
    mean_kl: float
    worst_kl: float
    relative_difference: float


def differ(trained: Reply, exported: Reply) -> Difference:
    """Compare the logits of two replies; NaN where the export gave no numbers."""
    kl, squares, norms, largest = [], 0.0, 0.0, []
    for ours, theirs in zip(trained.logits.split(32), exported.logits.split(32), strict=True):
        ours_BV, theirs_BV = ours.double(), theirs.double()
        kl.append(_kl(ours_BV, theirs_BV))
        largest.append((ours_BV - theirs_BV).abs().max())
        centred = ours_BV - ours_BV.mean(-1, keepdim=True)
        squares += (theirs_BV - theirs_BV.mean(-1, keepdim=True) - centred).square().sum().item()
        norms += centred.square().sum().item()
    kl_N = torch.cat(kl)
    equal = trained.logits.argmax(-1) == exported.logits.argmax(-1)
    return Difference(
        torch.stack(largest).max().item(),
        equal[trained.answering].double().mean().item(),
        kl_N.mean().item(),
        kl_N.max().item(),
        (squares / norms) ** 0.5 if norms else float(squares > 0),
    )


def _kl(ours_BV: Tensor, theirs_BV: Tensor) -> Tensor:
    """(B,) KL of two rows of logits; what rounding makes negative is 0."""
    log_ours, log_theirs = ours_BV.log_softmax(-1), theirs_BV.log_softmax(-1)
    return (log_ours.exp() * (log_ours - log_theirs)).sum(-1).clamp_min(0.0)
