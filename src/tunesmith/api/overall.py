"""Figures of all held-out rows together: those of the method, and the loss of each source."""

from types import ModuleType

import numpy as np

from tunesmith.api.by_source import of_heldout
from tunesmith.data.prepared import Prepared
from tunesmith.evaluate.heldout import HeldoutResult


def overall(method: ModuleType, heldout: Prepared, result: HeldoutResult) -> dict[str, float]:
    """By name; see `methods.base.Method.overall`."""
    found = of_heldout(heldout, result)
    if give := getattr(method, "overall", None):
        values = {"loss": result.per_row_sum, **result.figures, **result.aside}
        found |= give(values, result.per_row_count, _numbers(heldout))
    return found


def _numbers(heldout: Prepared) -> dict[str, np.ndarray]:
    """The numbers that the examples come with, end to end."""
    examples = [heldout[i].numbers for i in range(len(heldout))]
    return {name: np.concatenate([each[name] for each in examples]) for name in examples[0]}
