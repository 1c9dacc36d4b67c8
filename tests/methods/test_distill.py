"""Distillation by hand, beside TRL's, and with a teacher whose answers come from the disk."""

import json
import math
from pathlib import Path

import pytest
import torch

from tunesmith.methods._divergence import divergence, with_rest
from tunesmith.methods.distill import Config

TRL = json.loads(Path(__file__).with_name("trl_policy_values.json").read_text())
"""Of TRL 1.16.0, by `make_trl_policy_values.py`."""
HALF = torch.tensor([[0.5, 0.25, 0.25]]).log()
SURE = torch.tensor([[0.8, 0.1, 0.1]]).log()


def _config(**keys) -> Config:
    return Config(teacher="starter", **keys)


def test_divergences_by_hand():
    forward = 0.5 * math.log(0.5 / 0.8) + 2 * 0.25 * math.log(0.25 / 0.1)
    reverse = 0.8 * math.log(0.8 / 0.5) + 2 * 0.1 * math.log(0.1 / 0.25)
    middle = [0.25 * 0.5 + 0.75 * 0.8, 0.25 * 0.25 + 0.75 * 0.1]
    jsd = 0.25 * (0.5 * math.log(0.5 / middle[0]) + 0.5 * math.log(0.25 / middle[1]))
    jsd += 0.75 * (0.8 * math.log(0.8 / middle[0]) + 0.2 * math.log(0.1 / middle[1]))
    for kind, expected in {"forward": forward, "reverse": reverse, "jsd": jsd}.items():
        got = divergence(HALF, SURE, _config(divergence=kind, mix=0.25))
        assert got.item() == pytest.approx(expected, abs=1e-6)
        assert divergence(HALF, HALF, _config(divergence=kind)).item() == pytest.approx(0, abs=1e-7)


def test_what_is_not_kept_counts_as_one_token():
    assert with_rest(HALF[:, :2]).exp().tolist() == [pytest.approx([0.5, 0.25, 0.25])]
    kept = divergence(with_rest(HALF[:, :1]), with_rest(SURE[:, :1]), _config())
    assert kept.item() == pytest.approx(0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2))
    # All of it kept: nothing is left, and nothing is added.
    whole = divergence(with_rest(HALF), with_rest(SURE), _config())
    assert whole.item() == pytest.approx(divergence(HALF, SURE, _config()).item(), abs=1e-6)


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd"])
def test_loss_and_gradient_are_those_of_trl(kind):
    logits = torch.tensor(TRL["student"], requires_grad=True)
    teacher = torch.tensor(TRL["teacher"])
    logs = [torch.log_softmax(each / TRL["temperature"], -1) for each in (teacher, logits)]
    loss = divergence(*map(with_rest, logs), _config(divergence=kind, mix=0.25)).mean()
    loss.backward()
    expected = TRL["cases"][f"gkd_{kind}"]
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-5)
    torch.testing.assert_close(
        logits.grad, torch.tensor(expected["gradient"]), rtol=1e-4, atol=1e-6
    )
