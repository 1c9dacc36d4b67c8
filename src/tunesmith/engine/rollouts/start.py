"""The model as it was before step 1, while another one is being trained."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from tunesmith.adapters.base import Attached


class Start:
    """Brings back the model before step 1 for the time of a block.

    Where an adapter can be switched off, that is the base. Otherwise the trained parameters are
    kept as they were, which takes their size in memory once more, and twice within the block.

    Args:
        attached: The model, not yet trained nor restored from a checkpoint.
    """

    def __init__(self, attached: Attached) -> None:
        self._attached = attached
        plain = attached.disabled is not None and not attached.continued
        self._kept = None if plain else _copies(attached.trained)

    def __call__(self) -> AbstractContextManager[Any]:
        """A context in which the model is what it was."""
        if self._kept is None and self._attached.disabled is not None:
            return self._attached.disabled()
        return self._swapped()

    @contextmanager
    def _swapped(self) -> Iterator[None]:
        now = _copies(self._attached.trained)
        _put(self._attached.trained, self._kept or {})
        try:
            yield
        finally:
            _put(self._attached.trained, now)


def _copies(parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


@torch.no_grad()
def _put(parameters: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]) -> None:
    for name, value in values.items():
        parameters[name].copy_(value)
