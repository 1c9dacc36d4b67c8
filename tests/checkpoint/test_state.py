"""Tensors, values and optimizers come back bit for bit."""

import inspect
import os

import pytest
import torch
from torch import Tensor, nn

from tunesmith.checkpoint.state import (
    flatten_optimizer,
    read_state,
    restore_optimizer,
    write_state,
)
from tunesmith.errors import CheckpointError

DTYPES = sorted(
    {
        value
        for value in vars(torch).values()
        if isinstance(value, torch.dtype)
        and str(value).startswith(("torch.float", "torch.bfloat", "torch.complex", "torch.bool"))
    }
    | {getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
    key=str,
)

OPTIMIZERS = sorted(
    name
    for name, value in vars(torch.optim).items()
    # SparseAdam takes sparse gradients alone.
    if inspect.isclass(value) and name not in ("Optimizer", "SparseAdam")
)

OPTIONS = {
    "SGD": [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.9, "nesterov": True}],
    "Adam": [{"amsgrad": True}, {"lr": torch.tensor(0.01), "foreach": False}, {"fused": True}],
    "AdamW": [{}, {"fused": True, "weight_decay": 0.1}],
    "RMSprop": [{"momentum": 0.9, "centered": True}, {}],
    "Adafactor": [{"lr": 0.1}, {"beta2_decay": -0.5, "d": 2.0}],
    "LBFGS": [{"lr": 0.1, "max_iter": 3, "history_size": 2}, {"line_search_fn": "strong_wolfe"}],
}

CASES = [
    pytest.param(name, options, id=f"{name}-{number}")
    for name in OPTIMIZERS
    for number, options in enumerate(OPTIONS.get(name, [{}]))
]


def bits(tensor: Tensor) -> tuple:
    """Type, shape and bytes of a tensor."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return tensor.dtype, tuple(tensor.shape), bytes(flat.tolist())


def all_bits(value):
    """The same structure with the bits of each tensor."""
    if isinstance(value, Tensor):
        return bits(value)
    if isinstance(value, dict):
        return {key: all_bits(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(all_bits(inner) for inner in value)
    return value


class Trainer:
    """Parameters of several shapes and types, an optimizer, and gradients that are a function of
    the step and of the parameters."""

    def __init__(self, name: str, options: dict, device: str = "cpu") -> None:
        torch.manual_seed(7)
        shapes = {"layer.weight": (5, 3), "head.weight": (4, 4)}
        dtypes = {"head.weight": torch.bfloat16}
        if name != "Muon":
            # Muon takes matrices only.
            shapes |= {"layer.bias": (3,), "scale": (), "nothing": (0,)}
        if name == "Adafactor":
            # Its mean over no values divides by zero.
            del shapes["nothing"]
        if name == "LBFGS":
            # LBFGS lays all gradients end to end in one type.
            dtypes = {}
        self.parameters = {
            key: nn.Parameter(torch.randn(shape).to(device, dtypes.get(key, torch.float32)))
            for key, shape in shapes.items()
        }
        self.names = list(self.parameters)
        first, *rest = self.parameters.values()
        groups = [{"params": [first], "weight_decay": 0.0}, {"params": rest}]
        if name == "LBFGS":
            groups = list(self.parameters.values())
        elif name in ("Rprop", "NAdam", "Muon"):
            groups = [{"params": [first]}, {"params": rest}]
        self.optimizer = getattr(torch.optim, name)(groups, **options)
        self.step = 0

    def train(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self.optimizer.step(self.closure)
            self.step += 1

    def closure(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = sum(
            (parameter.float() - (0.1 * self.step + index)).square().sum()
            for index, parameter in enumerate(self.parameters.values())
        )
        loss.backward()
        return loss

    def kept(self) -> dict:
        state = self.optimizer.state
        return {
            "parameters": all_bits(self.parameters),
            "state": {
                name: all_bits(dict(state[parameter]))
                for name, parameter in self.parameters.items()
                if parameter in state
            },
            "groups": [
                all_bits({key: value for key, value in group.items() if key != "params"})
                for group in self.optimizer.param_groups
            ],
        }


def resumed(old: Trainer, folder, name: str, options: dict, device: str = "cpu") -> Trainer:
    """A new trainer that goes on from what the old one saved."""
    tensors, values = flatten_optimizer(old.optimizer, old.names)
    tensors = {**tensors, **{f"model/{key}": value for key, value in old.parameters.items()}}
    write_state(folder, tensors, {"optimizer": values, "step": old.step})
    tensors, values = read_state(folder)
    new = Trainer(name, options, device)
    with torch.no_grad():
        for key, parameter in new.parameters.items():
            parameter.copy_(tensors[f"model/{key}"])
    restore_optimizer(new.optimizer, new.names, tensors, values["optimizer"])
    new.step = values["step"]
    return new


def test_every_optimizer_of_torch_is_tested():
    assert {"Adam", "AdamW", "SGD", "Adafactor", "Muon", "LBFGS", "Rprop"} <= set(OPTIMIZERS)
    assert len(OPTIMIZERS) >= 14


@pytest.mark.parametrize(("name", "options"), CASES)
def test_training_goes_on_bit_for_bit(tmp_path, name, options):
    whole = Trainer(name, options)
    whole.train(3)
    halfway = Trainer(name, options)
    halfway.train(3)
    new = resumed(halfway, tmp_path, name, options)
    assert new.kept() == whole.kept()
    start = all_bits(whole.parameters)
    new.train(3)
    whole.train(3)
    assert new.kept() == whole.kept()
    assert all_bits(whole.parameters) != start


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("extra", [{}, {"capturable": True}], ids=["plain", "capturable"])
def test_training_goes_on_bit_for_bit_on_a_gpu(tmp_path, name, options, extra):
    accepted = inspect.signature(getattr(torch.optim, name)).parameters
    if extra and "capturable" not in accepted:
        pytest.skip(f"{name} has no such option")
    options = {**options, **extra}
    if isinstance(options.get("lr"), Tensor):
        options["lr"] = options["lr"].cuda() if extra else 0.01
    whole, halfway = Trainer(name, options, "cuda"), Trainer(name, options, "cuda")
    whole.train(3)
    halfway.train(3)
    new = resumed(halfway, tmp_path, name, options, "cuda")
    places = [
        {
            key: value.device
            for key, value in trainer.optimizer.state[parameter].items()
            if isinstance(value, Tensor)
        }
        for trainer in (whole, new)
        for parameter in trainer.parameters.values()
    ]
    assert places[: len(places) // 2] == places[len(places) // 2 :]
    new.train(3)
    whole.train(3)
    assert new.kept() == whole.kept()


def test_state_in_a_wider_type_than_its_parameter_is_not_cast(tmp_path):
    parameter = nn.Parameter(torch.randn(4).bfloat16())
    optimizer = torch.optim.AdamW([parameter])
    moments = torch.randn(4)
    optimizer.state[parameter] = {"step": torch.tensor(3.0), "exp_avg": moments, "count": 2}
    write_state(tmp_path, *flatten_optimizer(optimizer, ["w"]))
    fresh = torch.optim.AdamW([parameter])
    restore_optimizer(fresh, ["w"], *read_state(tmp_path))
    assert bits(fresh.state[parameter]["exp_avg"]) == bits(moments)
    assert fresh.state[parameter]["count"] == 2


def test_tensors_are_named_after_parameters_and_values_are_plain():
    trainer = Trainer("AdamW", {})
    trainer.train(1)
    tensors, values = flatten_optimizer(trainer.optimizer, trainer.names)
    assert "optimizer/layer.weight/exp_avg" in tensors
    assert "optimizer/scale/step" in tensors
    assert values["class"] == "AdamW"
    assert values["parameters"]["head.weight"] == [[4, 4], "bfloat16"]
    assert values["groups"][0]["betas"] == (0.9, 0.999)


def test_restored_tensors_share_nothing_with_what_was_read():
    trainer, other = Trainer("AdamW", {}), Trainer("AdamW", {})
    trainer.train(1)
    tensors, values = flatten_optimizer(trainer.optimizer, trainer.names)
    before = all_bits(tensors)
    restore_optimizer(other.optimizer, other.names, tensors, values)
    other.train(2)
    assert all_bits(tensors) == before


def saved_adamw() -> tuple[dict, dict]:
    trainer = Trainer("AdamW", {})
    trainer.train(1)
    return flatten_optimizer(trainer.optimizer, trainer.names)


def renamed(names):
    return ["layer.kernel" if name == "layer.weight" else name for name in names]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda n, t, v: (renamed(n), t, v), "got no state for layer.kernel"),
        (lambda n, t, v: (n[:-1], t, v), "got 4 names for 5 parameters"),
        (lambda n, t, v: ([n[0], *n[:-1]], t, v), "got the name layer.weight twice"),
        (
            lambda n, t, v: (n[::-1], t, v),
            "nothing: [0] float32 was saved; expected [5, 3] float32",
        ),
        (
            lambda n, t, v: (n, {k: x for k, x in t.items() if k != "optimizer/scale/exp_avg"}, v),
            "got no tensor optimizer/scale/exp_avg",
        ),
        (lambda n, t, v: (n, t, {**v, "class": "Lion"}), "got state of Lion; expected state of"),
        (lambda n, t, v: (n, t, {**v, "sizes": [2, 3]}), "in another order or in other groups"),
        (
            lambda n, t, v: (
                n,
                t,
                {**v, "parameters": {**v["parameters"], "scale": [[], "float16"]}},
            ),
            "scale: [] float16 was saved; expected [] float32",
        ),
        (
            lambda n, t, v: (n, t, {**v, "parameters": {**v["parameters"], "gone": [[], "f"]}}),
            "got state for unknown gone",
        ),
    ],
)
def test_state_of_other_parameters_is_refused_and_changes_nothing(change, text):
    trainer = Trainer("AdamW", {})
    trainer.train(2)
    before = trainer.kept()
    names, tensors, values = change(trainer.names, *saved_adamw())
    with pytest.raises(CheckpointError) as caught:
        restore_optimizer(trainer.optimizer, names, tensors, values)
    assert text in str(caught.value)
    assert trainer.kept() == before


def test_state_that_hangs_on_no_parameter_is_refused():
    trainer = Trainer("AdamW", {})
    trainer.optimizer.state["global"] = {"step": 1}
    with pytest.raises(CheckpointError, match="1 keys that are none of its parameters"):
        flatten_optimizer(trainer.optimizer, trainer.names)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (4, 2), (1,)], ids=str)
def test_tensors_of_any_type_and_shape_come_back(tmp_path, dtype, shape):
    num_bytes = torch.empty(shape, dtype=dtype).nbytes
    low, high = (0, 2) if dtype is torch.bool else (0, 256)
    raw = torch.randint(low, high, (num_bytes,), dtype=torch.uint8)
    tensor = raw.view(dtype).reshape(shape)
    write_state(tmp_path, {"x": tensor, "y": tensor.clone()}, {})
    tensors, values = read_state(tmp_path)
    assert values == {}
    assert bits(tensors["x"]) == bits(tensor) == bits(tensors["y"])


def test_views_and_tied_tensors_are_saved_one_by_one(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    given = {"whole": base, "same": base, "row": base[1], "turned": base.t(), "wide": base[:1]}
    given["spread"] = torch.tensor([2.5]).expand(4)
    write_state(tmp_path, given, {})
    tensors, _ = read_state(tmp_path)
    assert all_bits(tensors) == all_bits(given)
    tensors["whole"].zero_()
    assert tensors["same"].sum() == 66


def test_a_parameter_is_saved_without_its_gradient(tmp_path):
    write_state(tmp_path, {"w": nn.Parameter(torch.ones(2))}, {})
    assert not read_state(tmp_path)[0]["w"].requires_grad


def test_no_tensors_at_all_is_fine(tmp_path):
    write_state(tmp_path, {}, {"epoch": 0.5})
    assert read_state(tmp_path) == ({}, {"epoch": 0.5})


@pytest.mark.parametrize(
    "tensor",
    [torch.eye(2).to_sparse(), torch.empty(2, device="meta")],
    ids=["sparse", "meta"],
)
def test_tensors_without_plain_bytes_are_refused_by_name(tmp_path, tensor):
    with pytest.raises(CheckpointError, match="odd: got a tensor with layout"):
        write_state(tmp_path, {"odd": tensor}, {})


def test_values_that_json_cannot_say_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(CheckpointError, match=r"values\.rng: got a value of type Tensor"):
        write_state(tmp_path, {}, {"rng": torch.ones(1)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_missing_and_torn_files_are_checkpoint_errors(tmp_path, name, damage):
    write_state(tmp_path, {"x": torch.ones(50)}, {"x": 1})
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        os.truncate(tmp_path / name, 0 if damage == "empty" else 20)
    with pytest.raises(CheckpointError) as caught:
        read_state(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_what_was_read_outlives_its_file(tmp_path):
    write_state(tmp_path, {"x": torch.ones(5000)}, {})
    tensors, _ = read_state(tmp_path)
    os.truncate(tmp_path / "state.safetensors", 0)
    assert tensors["x"].sum() == 5000
