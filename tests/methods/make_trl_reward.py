"""Writes trl_reward.json: losses and gradients of TRL's RewardTrainer on given rewards.

Run it with the interpreter of an environment that has TRL (benchmarks/environments.py makes one):
    ~/.cache/tunesmith/benchmarks/trl/bin/python tests/methods/make_trl_reward.py
TRL computes the loss inside its trainer; here it is called with a stand-in for that, and a model
that answers with the rewards.
"""

import json
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import torch
from trl import RewardTrainer

CHOSEN, REJECTED, MARGINS = [1.5, -0.25, 0.0, 3.0], [0.5, 0.75, 0.0, -2.0], [0.0, 0.5, 1.0, 2.0]
CASES = [(False, 0.0), (True, 0.0), (False, 0.01), (True, 0.1)]
VALUES = Path(__file__).with_name("trl_reward.json")


def asked(margins: bool, center: float) -> dict[str, object]:
    """Loss and gradient of one case."""
    rewards = torch.tensor(CHOSEN + REJECTED, requires_grad=True)
    same = SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(center_rewards_coefficient=center or None),
        accelerator=same,
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        _total_train_tokens=0,
    )
    inputs = {"margin": torch.tensor(MARGINS)} if margins else {}
    answer = SimpleNamespace(logits=rewards[:, None])
    loss = RewardTrainer.compute_loss(trainer, lambda **given: answer, inputs)
    loss.backward()
    return {
        "margins": margins,
        "center": center,
        "loss": loss.item(),
        "gradient": rewards.grad.tolist(),
    }


def main() -> None:
    """Ask for every case."""
    found = {"chosen": CHOSEN, "rejected": REJECTED, "margin": MARGINS}
    cases = [asked(*case) for case in CASES]
    VALUES.write_text(json.dumps({"trl": version("trl"), **found, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
