"""On a GPU the host would have to wait for a number that it reads; a step reads none but the loss.

Checked on a CPU, on the operators that a GPU would run: C kernels are off, and attention is that of
other devices.
"""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tunesmith.data.collate import collate
from tunesmith.data.example import Example
from tunesmith.models import blocks, fast, head
from tunesmith.models.kernels import build
from tunesmith.models.policy import Policy
from tunesmith.testing.bases import lora_base


class Waiting(TorchDispatchMode):
    """Refuses operators that read a number, or whose result has a size that hangs on one."""

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = [x for x in args[1] if x is not None] if name == "index" else []
        if name in self.READS or any(x.dtype is torch.bool for x in masks):
            raise AssertionError(f"{name} waits for the device")
        return function(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def as_elsewhere(monkeypatch):
    """What other devices run."""
    monkeypatch.setattr(build, "library", lambda: None)
    monkeypatch.setattr(blocks, "_seen_on_cpu", blocks._seen)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_loss_and_gradients_of_a_model(name):
    draw = np.random.default_rng(0)
    examples = [
        Example(draw.integers(1, 320, n).astype(np.int32), np.arange(n) >= n // 2, "rows", i)
        for i, n in enumerate((12, 5, 40))
    ]
    batch = collate(examples, packed=True, pad_id=0)
    model = lora_base(name)
    fast.lay_over(model)
    policy = Policy(model, "fast", torch.float32)
    with Waiting():
        policy.loss_sum(batch).backward()


def test_loss_and_gradients_of_the_head():
    torch.manual_seed(0)
    hidden = torch.randn(600, 24, requires_grad=True)
    weight, targets = torch.randn(97, 24, requires_grad=True), torch.randint(0, 97, (600,))
    with Waiting():
        head.losses(hidden, weight, targets)[0].backward()
        (head.token_nll(hidden, weight, targets) * 0.5).sum().backward()


def test_the_check_finds_what_waits():
    x = torch.randn(5)
    with pytest.raises(AssertionError, match="index waits"), Waiting():
        x[torch.tensor([True, False, True, True, False])]
    with pytest.raises(AssertionError, match="_local_scalar_dense waits"), Waiting():
        x[0].item()
