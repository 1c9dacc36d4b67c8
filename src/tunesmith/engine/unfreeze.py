"""Gradual unfreezing: the last block is trained first, then one more below it at a time.

ULMFiT, arXiv:1801.06146, section 3.3. Which parameters are trained is a function of the step, so
there is nothing to save. One that is not trained yet loses its gradient before it is clipped or
seen by the optimizer: neither it nor a moment of it moves.
"""

from collections.abc import Mapping

from torch import nn
from transformers import PreTrainedModel

from tunesmith.engine.depth import depths, top


class Unfreezing:
    """Drops the gradients of what is not trained yet.

    Args:
        model: Knows how deep parameters lie.
        trained: By name. What lies deepest is trained from the start, whatever it is; what follows
            the blocks goes with the last one.
        every: Steps after which the next lower depth is trained too; None trains all at once.
    """

    def __init__(
        self, model: PreTrainedModel, trained: Mapping[str, nn.Parameter], every: int | None
    ) -> None:
        self._every = every
        self._stages: list[list[nn.Parameter]] = []
        if every is not None:
            last = top(model) - 1
            found = {name: min(deep, last) for name, deep in depths(model, trained).items()}
            for depth in sorted(set(found.values()), reverse=True):
                self._stages.append([p for name, p in trained.items() if found[name] == depth])

    def __call__(self, step: int) -> None:
        """Drop what is not trained in this step, counted from 0."""
        if self._every is None:
            return
        for stage in self._stages[1 + step // self._every :]:
            for parameter in stage:
                parameter.grad = None
