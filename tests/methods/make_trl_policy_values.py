"""Writes what TRL's losses of sampled answers give on fixed numbers, for `test_policy_values.py`.

Run it with the python of an environment that has TRL; it prints the JSON:

    python tests/methods/make_trl_policy_values.py > tests/methods/trl_policy_values.json
"""

import json
import sys
from collections import defaultdict
from types import SimpleNamespace

import torch
import trl
from trl.trainer.distillation_trainer import _chunked_divergence_loss
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer
from trl_numbers import LENGTHS, REWARDS, drawn, padded

NUM_ANSWERS = 3
MAX_NEW_TOKENS = 5

CASES = {
    "grpo": {"loss_type": "grpo"},
    "grpo_kl": {"loss_type": "grpo", "beta": 0.3},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "beta": 0.1},
}
"""Options of GRPO; rloo and distillation come besides."""

VOCABULARY = 6
TEMPERATURE = 0.7
BETAS = {"gkd_forward": 0.0, "gkd_reverse": 1.0, "gkd_jsd": 0.25}
"""TRL's weight of the two directions, for on-policy distillation."""


def accelerator() -> SimpleNamespace:
    """One process."""
    same = lambda x, *_, **__: x  # noqa: E731
    return SimpleNamespace(
        gather=same, gather_for_metrics=same, reduce=same, num_processes=1, sync_gradients=True
    )


def advantages(scale: str) -> torch.Tensor:
    """As TRL's GRPO makes them of rewards."""
    rewards = torch.tensor(REWARDS).view(-1, NUM_ANSWERS)
    found = rewards - rewards.mean(1, keepdim=True)
    if scale == "group":
        found = found / (rewards.std(1, keepdim=True) + 1e-4)
    return found.flatten()


def stub(log_probs: torch.Tensor, **options: object) -> SimpleNamespace:
    """What `_compute_loss` reads of a trainer."""
    usual = {
        "loss_type": "grpo",
        "beta": 0.0,
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "importance_sampling_level": "token",
        "scale_rewards": "group",
    }
    return SimpleNamespace(
        **{**usual, **options},
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        _entropy_bonus_enabled=False,
        max_completion_length=MAX_NEW_TOKENS,
        current_gradient_accumulation_steps=1,
        accelerator=accelerator(),
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs, log_probs.detach(), None),
    )


def run(trainer: type, numbers: dict[str, torch.Tensor], **options: object) -> dict[str, object]:
    """Loss and gradient of one case."""
    now = numbers["now"].clone().requires_grad_()
    self = stub(padded(now), **options)
    mask = padded(torch.ones(sum(LENGTHS)))
    ids = mask.long()
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": ids[:, :1],
        "completion_ids": ids,
        "completion_mask": mask,
        "old_per_token_logps": padded(numbers["old"]),
        "old_logps": padded(numbers["old"]).sum(1),
        "ref_per_token_logps": padded(numbers["reference"]),
        "num_items_in_batch": mask.sum(),
        "advantages": numbers["advantages"],
    }
    loss = trainer._compute_loss(self, SimpleNamespace(training=True), inputs)
    (gradient,) = torch.autograd.grad(loss, now)
    return {"loss": loss.item(), "gradient": gradient.tolist()}


def distilled(logits: dict[str, torch.Tensor], beta: float) -> dict[str, object]:
    """Loss and gradient of its on-policy distillation; the heads hand the logits on."""
    student = logits["student"].clone().requires_grad_()
    head, every = torch.eye(VOCABULARY), torch.ones(1, len(student))
    loss, _, _ = _chunked_divergence_loss(
        student[None],
        logits["teacher"][None],
        head,
        head,
        every,
        beta,
        num_items_in_batch=every.sum(),
        temperature=TEMPERATURE,
    )
    (gradient,) = torch.autograd.grad(loss, student)
    return {"loss": loss.item(), "gradient": gradient.tolist()}


def main() -> None:
    """Print the JSON."""
    numbers, found = drawn(), {}
    for name, options in CASES.items():
        of = numbers | {"advantages": advantages(options.get("scale_rewards", "group"))}
        found[name] = run(GRPOTrainer, of, **options)
    rewards = torch.tensor(REWARDS).view(-1, NUM_ANSWERS)
    others = (rewards.sum(1, keepdim=True) - rewards) / (NUM_ANSWERS - 1)
    found["rloo"] = run(RLOOTrainer, numbers | {"advantages": (rewards - others).flatten()})
    logits = {name: 2 * torch.randn(sum(LENGTHS), VOCABULARY) for name in ("student", "teacher")}
    found |= {name: distilled(logits, beta) for name, beta in BETAS.items()}
    made = {
        "trl": trl.__version__,
        "lengths": LENGTHS,
        "rewards": REWARDS,
        "num_answers": NUM_ANSWERS,
        "max_new_tokens": MAX_NEW_TOKENS,
        "temperature": TEMPERATURE,
        **{name: values.tolist() for name, values in (numbers | logits).items()},
        "cases": found,
    }
    json.dump(made, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
