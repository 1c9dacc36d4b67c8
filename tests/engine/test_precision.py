"""The type that a machine is quick in, and being told of one that it is slow in."""

import pytest
import torch

from tunesmith.engine import precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def machine(monkeypatch):
    """A processor whose products take so many seconds in each type, as a function of them."""

    def of(fp32, bf16):
        seconds = {torch.float32: fp32, torch.bfloat16: bf16}
        monkeypatch.setattr(precision, "_seconds", lambda dtype, device: seconds[dtype])

    return of


@pytest.mark.parametrize(("bf16", "taken"), [(0.5, "bf16"), (0.9, "fp32"), (10.0, "fp32")])
def test_auto_takes_bf16_where_it_is_clearly_faster(machine, bf16, taken):
    machine(1.0, bf16)
    assert precision.resolve("auto", CPU) == taken
    assert precision.resolve("bf16", CPU) == "bf16"


def test_it_is_known_how_far_a_type_lags(machine):
    machine(1.0, 20.0)
    assert precision.lag("bf16", CPU) == 20.0
    assert precision.lag("fp32", CPU) == 1.0
    assert precision.lag("bf16", GPU) == 1.0
    machine(1.0, 1.2)
    assert precision.lag("bf16", CPU) == 1.0


def test_products_are_really_timed():
    assert 0 < precision._seconds(torch.float32, CPU) < 10
