"""What holds for every optimizer there is: rejected steps, resume to the bit, going back.

`TUNESMITH_OPTIMIZERS=full` tests all of torch.optim, and those of torchao, which compile for half a
minute each.
"""

import json
import math
import os
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from tunesmith.api import build
from tunesmith.api.batches import build_loader
from tunesmith.api.learner import build_base, build_learner
from tunesmith.api.resolve import resolve
from tunesmith.api.rows import build_rows
from tunesmith.checkpoint.state import write_state
from tunesmith.config import folder
from tunesmith.engine import optimizer, optimizers
from tunesmith.engine.loop import set_rate, take_step
from tunesmith.engine.saving import PARAMETER, flatten, restore
from tunesmith.engine.sound import unsound
from tunesmith.errors import CheckpointError, MachineError, RecipeError
from tunesmith.methods.base import LossSum
from tunesmith.recipe import from_dict
from tunesmith.testing.tiny import tiny_base

FULL = os.environ.get("TUNESMITH_OPTIMIZERS") == "full"
NEEDS = {
    "adamw8bit": "bitsandbytes",
    "schedule_free_adamw": "schedulefree",
    "schedule_free_sgd": "schedulefree",
    "torchao_adamw4bit": "torchao",
    "torchao_adamw8bit": "torchao",
}
ONE_SHAPE = {"name": "lora", "rank": 64, "targets": ["q_proj"]}
"""Matrices of 64 x 64 alone: each shape is compiled by itself."""
ON_GPU = {"paged_adamw8bit"}
OF_TORCH = {"adamw", "adafactor"}
"""Those of torch.optim that are tested every time; tests/checkpoint has the state of all."""


def _cases():
    for name in sorted(set(optimizer.names()) - ON_GPU):
        needs = NEEDS.get(name)
        skips = [
            pytest.mark.skipif(needs and not find_spec(needs), reason=f"{needs} is missing"),
            pytest.mark.skipif(needs == "torchao" and not FULL, reason="it compiles"),
        ]
        if not (FULL or name in OF_TORCH or name in folder.names(optimizers)):
            continue
        yield pytest.param(name, marks=[*skips, pytest.mark.filterwarnings("default")])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("optimizers")
    tiny_base(place / "base")
    rows = [{"prompt": "p" * (1 + i % 4), "completion": "c" * (1 + i % 5)} for i in range(10)]
    (place / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return place


@pytest.fixture
def make(place, monkeypatch):
    """Parts of a run with an optimizer."""
    monkeypatch.setenv("TUNESMITH_HOME", str(place / "home"))

    def build_parts(name, **train):
        keys = {"epochs": 1, "batch_rows": 2, "learning_rate": 1e-2, "precision": "fp32"}
        recipe = resolve(
            from_dict(
                {
                    "model": {"base": str(place / "base")},
                    "data": {"train": str(place / "rows.jsonl"), "max_tokens": 64},
                    "adapter": ONE_SHAPE if "torchao" in name else {"name": "full"},
                    "train": {
                        **keys,
                        "optimizer": name,
                        "schedule": "constant",
                        "weight_decay": 0.1,
                    }
                    | train,
                }
            )
        )
        base = build_base(recipe)
        rows = build_rows(recipe, base)
        learner = build_learner(recipe, base)
        parts = build.build_parts(recipe, learner, build_loader(recipe, rows), lambda e: None)
        return parts, learner.attached.trained

    return build_parts


def _bits(parts, trained):
    """Weights and all that the optimizer keeps."""
    tensors, values = flatten(parts.optimizer, trained)
    copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    return copies | {PARAMETER + n: p.detach().clone() for n, p in trained.items()}, values


def _same(one, other):
    return (
        one[0].keys() == other[0].keys()
        and all(torch.equal(one[0][name], other[0][name]) for name in one[0])
        and repr(one[1]) == repr(other[1])
    )


@pytest.mark.parametrize("name", list(_cases()))
def test_a_rejected_step_leaves_nothing_and_a_resumed_run_has_the_same_bits(make, name, tmp_path):
    parts, trained = make(name, layer_decay=0.9)
    good, start = parts.loss, _bits(parts, trained)
    for step in range(2):
        take_step(parts, step)
    saved = _bits(parts, trained)
    assert not _same(start, saved)
    assert not unsound(saved[0])

    parts.loss = lambda batch: LossSum(good(batch).total * math.nan, batch.num_trained)
    assert take_step(parts, 2).rejected
    assert _same(_bits(parts, trained), saved)
    parts.loss = good

    write_state(tmp_path, saved[0], {"optimizer": saved[1]})
    for step in (3, 4):
        take_step(parts, step)
    other, fresh = make(name, layer_decay=0.9)
    restore(tmp_path, fresh, other.optimizer)
    assert _same(_bits(other, fresh), saved)
    for step in (3, 4):
        take_step(other, step)
    assert _same(_bits(other, fresh), _bits(parts, trained))
    # Going back is the same in the process that trained on.
    restore(tmp_path, trained, parts.optimizer)
    assert _same(_bits(parts, trained), saved)


def test_every_file_is_among_the_names():
    assert {"muon", "adamw8bit", "schedule_free_adamw", "adafactor", "sgd"} <= set(
        optimizer.names()
    )


def test_muon_and_adamw_are_those_of_torch():
    torch.manual_seed(0)
    shapes = [(4, 3), (3, 5), (5,)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    groups = [
        {"params": ours[:1], "matrix": True, "weight_decay": 0.1},
        {"params": ours[1:], "matrix": False, "weight_decay": 0.0},
    ]
    built = optimizer.build("muon", groups, 1e-2, 0.1, {"momentum": 0.9})
    muon = torch.optim.Muon(
        theirs[:1], lr=1e-3, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(theirs[1:], lr=1e-3, weight_decay=0.0)
    set_rate(built, 1e-3)
    for step in range(3):
        for one, other in zip(ours, theirs, strict=True):
            torch.manual_seed(step)
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        built.step()
        muon.step()
        adamw.step()
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(ours[0], theirs[0])


def test_a_first_step_of_muon_by_hand():
    # Newton-Schulz brings the singular values of diag(3, 1) between 0.7 and 1.2; then 0.2 sqrt(2).
    weight = nn.Parameter(torch.zeros(2, 2))
    built = optimizer.build("muon", [weight], 0.5, 0.0, {"nesterov": False})
    weight.grad = torch.diag(torch.tensor([3.0, 1.0]))
    built.step()
    moved = -weight.detach() / (0.5 * 0.2 * math.sqrt(2))
    assert moved.diagonal().min() > 0.6
    assert moved.diagonal().max() < 1.25
    assert moved[0, 1].abs() < 0.02


def test_what_does_not_work_here_is_refused(monkeypatch):
    weight = [nn.Parameter(torch.zeros(2, 2))]
    with pytest.raises(RecipeError, match="got paged_adamw8bit on cpu; expected a GPU"):
        optimizer.build("paged_adamw8bit", weight, 1e-3, 0.0, {})
    monkeypatch.setitem(__import__("sys").modules, "schedulefree", None)
    with pytest.raises(MachineError, match=r"no package schedulefree.*\nhint: pip install"):
        optimizer.build("schedule_free_sgd", weight, 1e-3, 0.0, {})


@pytest.mark.skipif(not find_spec("schedulefree"), reason="schedulefree is missing")
def test_a_schedule_free_optimizer_takes_no_schedule(make):
    with pytest.raises(RecipeError, match="got cosine with train.optimizer: schedule_free_adamw"):
        make("schedule_free_adamw", schedule="cosine")


class Odd(torch.Tensor):
    """A tensor of a class that says nothing of what it is made of."""


class Wrapper(torch.Tensor):
    """A tensor that stands for two others, as moments in few bits do."""

    @staticmethod
    def __new__(cls, codes, scale, dtype):
        return torch.Tensor._make_wrapper_subclass(cls, codes.shape, dtype=dtype)

    def __init__(self, codes, scale, dtype):
        self.codes, self.scale = codes, scale

    def __tensor_flatten__(self):
        return ["codes", "scale"], [self.dtype]

    @classmethod
    def __tensor_unflatten__(cls, parts, context, size, stride):
        return cls(parts["codes"], parts["scale"], *context)

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise NotImplementedError(str(function))


class OwnAdamW(torch.optim.AdamW):
    """Stands for an optimizer of the library that this file is."""


def test_tensors_made_of_tensors_are_saved_in_parts_and_come_back(tmp_path):
    weight = nn.Parameter(torch.zeros(3))
    codes, scale = torch.arange(3, dtype=torch.uint8), torch.rand(1)
    built, fresh = OwnAdamW([weight]), OwnAdamW([weight])
    built.state[weight] = {"exp_avg": Wrapper(codes, scale, torch.bfloat16)}
    tensors, values = flatten(built, {"w": weight})
    assert sorted(tensors) == ["optimizer/w/exp_avg/codes", "optimizer/w/exp_avg/scale"]
    write_state(tmp_path, tensors | {"parameter/w": weight}, {"optimizer": values})
    restore(tmp_path, {"w": weight}, fresh)
    found = fresh.state[weight]["exp_avg"]
    assert type(found) is Wrapper
    assert torch.equal(found.codes, codes)
    assert torch.equal(found.scale, scale)
    assert found.dtype is torch.bfloat16
    with pytest.raises(CheckpointError, match="expected one of a class of torch"):
        restore_as_torch(tmp_path, weight)


def restore_as_torch(folder, weight):
    class AdamW(torch.optim.AdamW):
        __module__ = "torch.optim.adamw"

    AdamW.__name__ = "OwnAdamW"
    restore(folder, {"w": weight}, AdamW([weight]))


def test_a_tensor_of_an_odd_class_is_refused():
    weight = nn.Parameter(torch.zeros(3))
    built = torch.optim.AdamW([weight])
    built.state[weight] = {"exp_avg": torch.zeros(3).as_subclass(Odd)}
    with pytest.raises(CheckpointError, match="got a tensor of type .*Odd; expected plain tensors"):
        flatten(built, {"w": weight})
