"""How far an export may be from the trained model, by how its weights are stored."""

from dataclasses import asdict, dataclass
from math import inf

import torch


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Limits on the figures of `differ.Difference`; the default of each accepts everything."""

    max_logit_difference: float = inf
    mean_kl: float = inf
    worst_kl: float = inf
    relative_difference: float = inf
    equal_greedy_tokens: float = 0.0

    def limits(self) -> dict[str, float]:
        """The limits that are set, by the name of the figure."""
        return {name: value for name, value in asdict(self).items() if value not in (inf, 0.0)}


AS_TRAINED = {
    torch.float32: Tolerance(1e-3, equal_greedy_tokens=1.0),
    torch.bfloat16: Tolerance(0.05, equal_greedy_tokens=1.0),
}
"""Of the artefact of a run. Both sides run the same code on the same numbers, so what is measured
is 0; the room is for another number of threads."""

STORED = {
    "f32": Tolerance(1e-3, equal_greedy_tokens=1.0),
    "f16": Tolerance(mean_kl=1e-2),
    "bf16": Tolerance(mean_kl=1e-1),
    "q8_0": Tolerance(mean_kl=1e-1),
}
