"""Writes trl_values.json: losses and gradients of TRL on given log-probabilities.

Run it with the interpreter of an environment that has TRL (benchmarks/environments.py makes one):
    ~/.cache/tunesmith/benchmarks/trl/bin/python tests/methods/make_trl_values.py
TRL computes its losses inside its trainers; here each is called with a stand-in for the trainer,
and a model that answers with the log-probabilities. Its DPO leaves label smoothing out of the
sigmoid loss (1.16), so there is no case of it.
"""

import json
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import torch
from trl import DPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

LENGTHS = [(4, 2), (1, 5), (3, 3)]
"""Tokens of the chosen and the rejected answer of each pair."""
GOOD = [True, False, True]
VALUES = Path(__file__).with_name("trl_values.json")
ACCELERATOR = SimpleNamespace(
    device=torch.device("cpu"), gather_for_metrics=lambda x: x, gather=lambda x: x
)

CASES = {
    "dpo": {"beta": 0.3},
    "dpo robust": {"beta": 0.3, "label_smoothing": 0.1, "variant": "robust"},
    "dpo hinge": {"beta": 0.3, "variant": "hinge"},
    "dpo average": {"beta": 0.3, "average": True},
    "dpo sft": {"beta": 0.3, "sft_weight": 0.7},
    "ipo": {"beta": 0.3},
    "kto": {"beta": 0.3, "good_weight": 1.5},
    "kto apo_zero": {"beta": 0.3, "variant": "apo_zero"},
    "cpo": {"beta": 0.3},
    "cpo smoothing": {"beta": 0.3, "label_smoothing": 0.2, "sft_weight": 0.0},
    "cpo hinge": {"beta": 0.3, "variant": "hinge", "sft_weight": 0.5},
    "simpo": {"beta": 2.5, "gamma": 0.5},
    "orpo": {"beta": 0.2},
}


def drawn(seed: int, count: int) -> list[float]:
    """Log-probabilities of so many tokens, rounded so that JSON holds them exactly."""
    values = -4 * torch.rand(count, generator=torch.Generator().manual_seed(seed))
    return [round(value, 4) for value in values.tolist()]


def grid(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities side by side behind a prompt of two tokens, and the completion mask."""
    width = max(map(len, rows))
    padded = [torch.cat([torch.zeros(1), r, torch.zeros(width - len(r))]) for r in rows]
    mask = [[0, 0] + [1] * len(r) + [0] * (width - len(r)) for r in rows]
    return torch.stack(padded), torch.tensor(mask)


def answering(values: torch.Tensor) -> SimpleNamespace:
    """What TRL's fused head gives: log-probabilities, and figures that do not matter here."""
    zeros = torch.zeros_like(values.detach())
    return SimpleNamespace(log_probs=values, entropy=zeros, mean_logits=zeros, is_top1=zeros > 0)


def trainer(**more: object) -> SimpleNamespace:
    """What the losses read of a trainer."""
    return SimpleNamespace(
        accelerator=ACCELERATOR,
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        **more,
    )


def dpo(keys: dict, rows: list[torch.Tensor], reference: torch.Tensor, kind: str) -> torch.Tensor:
    """Mean loss of DPOTrainer over pairs; rows are the chosen answers, then the rejected ones."""
    weight = keys.get("sft_weight")
    values, mask = grid(rows)
    fake = trainer(
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        loss_types=[kind] + (["sft"] if weight else []),
        loss_weights=[1.0] + ([weight] if weight else []),
        use_weighting=False,
        beta=keys["beta"],
        label_smoothing=keys.get("label_smoothing", 0.0),
    )
    half = len(rows) // 2
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "ref_chosen_logps": reference[:half],
        "ref_rejected_logps": reference[half:],
    }
    return DPOTrainer._compute_loss(fake, lambda **_: answering(values), inputs, False)


def kto(keys: dict, rows: list[torch.Tensor], reference: torch.Tensor) -> torch.Tensor:
    """Mean loss of KTOTrainer; rows are the answers, then those of other rows."""
    half, variant = len(rows) // 2, keys.get("variant", "kto")
    (values, mask), (others, other_mask) = grid(rows[:half]), grid(rows[half:])
    fake = trainer(
        calculate_KL=variant == "kto",
        loss_type="kto" if variant == "kto" else "apo_zero_unpaired",
        beta=keys["beta"],
        desirable_weight=keys.get("good_weight", 1.0),
        undesirable_weight=1.0,
    )
    fake._compute_kl_logps = lambda model, batch: KTOTrainer._compute_kl_logps(fake, model, batch)
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
        "label": torch.tensor(GOOD),
        "ref_logps": reference[:half],
        "KL_input_ids": torch.ones_like(other_mask),
        "KL_attention_mask": torch.ones_like(other_mask),
        "KL_completion_mask": other_mask,
        "ref_KL_logps": reference[half:],
    }

    def model(input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        return answering(others if input_ids.any() else values)

    return KTOTrainer._compute_loss(fake, model, inputs, False)


def without_reference(name: str, keys: dict, rows: list[torch.Tensor]) -> torch.Tensor:
    """Loss of CPOTrainer or ORPOTrainer on one pair, with the chosen answer's mean likelihood."""
    chosen, rejected = rows
    if name == "orpo":
        fake = SimpleNamespace(beta=keys["beta"], accelerator=ACCELERATOR)
        found = ORPOTrainer.odds_ratio_loss(fake, chosen.mean()[None], rejected.mean()[None])
        return -chosen.mean() - found[0].mean()
    kind = "simpo" if name == "simpo" else keys.get("variant", "sigmoid")
    sums = [row.mean()[None] if name == "simpo" else row.sum()[None] for row in rows]
    fake = SimpleNamespace(
        beta=keys["beta"],
        alpha=0.0,
        accelerator=ACCELERATOR,
        loss_type=kind,
        label_smoothing=keys.get("label_smoothing", 0.0),
        simpo_gamma=keys.get("gamma", 0.0),
    )
    weight = keys.get("sft_weight", 1.0 if name == "cpo" else 0.0)
    return CPOTrainer.cpo_loss(fake, *sums)[0].mean() - weight * chosen.mean()


def loss(case: str, keys: dict, pairs: list[list[torch.Tensor]], reference: list) -> torch.Tensor:
    """Mean loss of a case over the pairs."""
    name = case.split()[0]
    rows = [pair[side] for side in (0, 1) for pair in pairs]
    before = torch.tensor([pair[side] for side in (0, 1) for pair in reference])
    if name == "kto":
        return kto(keys, rows, before)
    if name in ("dpo", "ipo") and "sft_weight" not in keys:
        kind = "sigmoid_norm" if keys.get("average") else keys.get("variant", "sigmoid")
        return dpo(keys, rows, before, "ipo" if name == "ipo" else kind)
    # TRL takes the mean likelihood over the tokens of a batch: of one pair it is the answer's.
    alone = [
        dpo(keys, pair, torch.tensor(told), "sigmoid")
        if name == "dpo"
        else without_reference(name, keys, pair)
        for pair, told in zip(pairs, reference, strict=True)
    ]
    return torch.stack(alone).mean()


def main() -> None:
    """Compute every case and write the file."""
    total = sum(map(sum, LENGTHS))
    flat, reference = drawn(1, total), []
    cases = {}
    for number, sizes in enumerate(LENGTHS):
        sums = [drawn(10 + 2 * number + side, size) for side, size in enumerate(sizes)]
        reference.append([round(sum(each), 4) for each in sums])
    for case, keys in CASES.items():
        leaf = torch.tensor(flat, requires_grad=True)
        parts = leaf.split([size for sizes in LENGTHS for size in sizes])
        pairs = [list(parts[i : i + 2]) for i in range(0, len(parts), 2)]
        value = loss(case, keys, pairs, reference)
        value.backward()
        cases[case] = {"keys": keys, "loss": value.item(), "gradient": leaf.grad.tolist()}
    found = {
        "versions": {name: version(name) for name in ("trl", "torch")},
        "lengths": LENGTHS,
        "good": GOOD,
        "log_probs": flat,
        "reference": reference,
        "cases": cases,
    }
    VALUES.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
