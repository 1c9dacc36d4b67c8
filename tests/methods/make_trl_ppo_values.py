"""Writes what TRL's last PPO gives on fixed numbers, for `test_ppo_values.py`.

TRL 0.11 is the last release whose PPO can be asked for its rewards, advantages and loss one by one;
1.x has none. Without values, and with a trace and a discount of 1, its PPO is REINFORCE++. Run it
with the python of an environment that has that release; it prints the JSON:

    python3.11 -m venv old && old/bin/pip install torch==2.13.0
    old/bin/pip install trl==0.11.4 transformers==4.46.3 rich
    old/bin/python tests/methods/make_trl_ppo_values.py > tests/methods/trl_ppo_values.json
"""

import json
import sys
from types import SimpleNamespace

import torch
import trl
from trl import PPOTrainer
from trl_numbers import LENGTHS, REWARDS, drawn, padded

CASES = {
    "ppo": {},
    "ppo_kl": {"beta": 0.3},
    "ppo_discounted": {"beta": 0.1, "gamma": 0.9, "lam": 0.7},
    "ppo_values": {"cliprange": 0.1, "cliprange_value": 0.05, "vf_coef": 0.5},
    "reinforce": {"lam": 1.0, "values": False},
    "reinforce_kl": {"beta": 0.3, "lam": 1.0, "values": False},
}
"""What differs from `USUAL`."""

USUAL = {
    "beta": 0.0,
    "gamma": 1.0,
    "lam": 0.95,
    "cliprange": 0.2,
    "cliprange_value": 0.2,
    "vf_coef": 0.1,
    "values": True,
}


def trainer(options: dict[str, float]) -> SimpleNamespace:
    """What the methods of PPOTrainer read of one."""
    fixed = {"kl_penalty": "kl", "whiten_rewards": False, "ratio_threshold": 10.0}
    config = SimpleNamespace(**fixed, **options)
    control = SimpleNamespace(value=options["beta"])
    self = SimpleNamespace(config=config, kl_ctl=control)
    self._kl_penalty = lambda now, reference: PPOTrainer._kl_penalty(self, now, reference)
    return self


def run(numbers: dict[str, torch.Tensor], options: dict[str, float]) -> dict[str, object]:
    """Advantages, loss and gradients of one case; the numbers are of single tokens."""
    self, mask = trainer(options), padded(torch.ones(sum(LENGTHS)))
    of = {name: padded(each) for name, each in numbers.items()}
    if not options["values"]:
        of["values"] = torch.zeros_like(of["values"])
        options["vf_coef"] = self.config.vf_coef = 0.0
    scores = torch.tensor(REWARDS)
    rewards, _, _ = PPOTrainer.compute_rewards(self, scores, of["old"], of["reference"], mask)
    values, advantages, returns = PPOTrainer.compute_advantages(self, of["values"], rewards, mask)
    now = numbers["now"].clone().requires_grad_()
    expected = numbers["expected"].clone().requires_grad_()
    logits = torch.zeros(*mask.shape, 2)
    losses = PPOTrainer.loss(
        self, of["old"], values, logits, padded(expected), padded(now), mask, advantages, returns
    )
    loss = losses[0] + losses[1]
    gradients = torch.autograd.grad(loss, (now, expected))
    return {
        "options": options,
        "advantages": advantages[mask.bool()].tolist(),
        "loss": loss.item(),
        "gradient": gradients[0].tolist(),
        "value_gradient": gradients[1].tolist(),
    }


def main() -> None:
    """Print the JSON."""
    numbers = drawn()
    numbers["values"] = torch.rand(sum(LENGTHS))
    numbers["expected"] = numbers["values"] + 0.1 * torch.randn(sum(LENGTHS))
    made = {
        "trl": trl.__version__,
        "lengths": LENGTHS,
        "rewards": REWARDS,
        **{name: values.tolist() for name, values in numbers.items()},
        "cases": {name: run(numbers, USUAL | other) for name, other in CASES.items()},
    }
    json.dump(made, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
