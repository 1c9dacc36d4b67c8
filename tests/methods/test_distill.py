"""Distillation by hand, beside TRL's, and with a teacher whose answers come from the disk."""

import math
import os
import subprocess
from pathlib import Path

import pytest
import torch

from tunesmith.methods._divergence import divergence, with_rest
from tunesmith.methods.distill import Config

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


TRL = """
import sys, torch
from trl.experimental.gkd import GKDTrainer
given = torch.load(sys.argv[1], weights_only=True)
student = given["student"].requires_grad_()
out = {}
for beta in (0.0, 0.25, 1.0):
    loss = GKDTrainer.generalized_jsd_loss(
        student[None], given["teacher"][None], beta=beta, temperature=2.0, reduction="sum")
    out[str(beta)] = [loss.detach(), torch.autograd.grad(loss, student)[0]]
torch.save(out, sys.argv[2])
"""


def _trl_python() -> Path | None:
    """Of the environment that the benchmarks made for TRL."""
    home = Path(os.environ.get("TUNESMITH_HOME", Path.home() / ".cache" / "tunesmith"))
    found = sorted(home.glob("benchmarks/*trl*/bin/python"))
    return found[0] if found else None


@pytest.mark.skipif(_trl_python() is None, reason="TRL: python -m benchmarks.peers installs it")
def test_loss_and_gradient_are_those_of_trl(tmp_path):
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 11), torch.randn(5, 11)
    torch.save({"student": student, "teacher": teacher}, tmp_path / "in.pt")
    (tmp_path / "theirs.py").write_text(TRL)
    command = [_trl_python(), tmp_path / "theirs.py", tmp_path / "in.pt", tmp_path / "out.pt"]
    subprocess.run(command, check=True, capture_output=True)
    theirs = torch.load(tmp_path / "out.pt", weights_only=True)
    kinds = {"0.0": _config(), "1.0": _config(divergence="reverse")}
    kinds["0.25"] = _config(divergence="jsd", mix=0.25)
    for beta, config in kinds.items():
        leaf = student.clone().requires_grad_()
        logs = [torch.log_softmax(each / 2.0, -1) for each in (teacher, leaf)]
        loss = divergence(with_rest(logs[0]), with_rest(logs[1]), config).sum()
        torch.testing.assert_close(loss.detach(), theirs[beta][0], rtol=1e-5, atol=1e-6)
        got = torch.autograd.grad(loss, leaf)[0]
        torch.testing.assert_close(got, theirs[beta][1], rtol=1e-4, atol=1e-6)
