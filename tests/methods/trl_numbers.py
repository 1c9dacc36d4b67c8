"""The answers that TRL's losses are asked about, for the scripts `make_trl_*_values.py`.

Torch alone, so that it can be read in any environment that has TRL.
"""

import torch

LENGTHS = (3, 1, 4, 2, 5, 2)
REWARDS = (0.0, 1.0, 0.5, 0.25, 0.25, 1.0)


def padded(numbers: torch.Tensor) -> torch.Tensor:
    """(R, T) the numbers of each answer, 0 behind its end."""
    return torch.nn.utils.rnn.pad_sequence(numbers.split(LENGTHS), batch_first=True)


def drawn() -> dict[str, torch.Tensor]:
    """(N,) log-probabilities of all tokens: now, as they were drawn, and of a reference."""
    torch.manual_seed(0)
    number = sum(LENGTHS)
    numbers = {"now": -2 * torch.rand(number)}
    numbers["old"] = numbers["now"] + 0.25 * torch.randn(number)
    numbers["reference"] = numbers["now"] + 0.5 * torch.randn(number)
    return numbers
