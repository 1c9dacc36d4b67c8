"""The state of training in two files: `state.safetensors` and `state.json`. No pickle.

What an optimizer keeps is saved under the *names* of its parameters, and put back without a cast:
`Optimizer.load_state_dict` casts state to the type of its parameter, which loses bits whenever
moments are kept in a wider type than the parameter.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from tunesmith.checkpoint import values as exact
from tunesmith.checkpoint.wrapped import is_wrapped, put_together, take_apart
from tunesmith.errors import CheckpointError

TENSORS, VALUES = "state.safetensors", "state.json"
RAW_DTYPES = {
    str(dtype): dtype for dtype in (torch.complex128, torch.complex32, torch.float4_e2m1fn_x2)
}
"""Types that safetensors does not know, or not in every shape: their bytes are saved."""


def write_state(folder: Path, tensors: Mapping[str, Tensor], values: dict[str, Any]) -> None:
    """Write tensors and values into a folder (that `commit` syncs and names).

    Args:
        folder: Where the two files go.
        tensors: Dense tensors of any shape, 0-d and empty ones too, on any device. Tensors that
            share memory are saved one by one, and no longer share it when read.
        values: None, bools, ints, floats (nan and inf too), strings, lists, tuples and dicts.

    Raises:
        CheckpointError: A tensor or value that cannot be saved exactly, by its name.
        OSError, SafetensorError: The disk refused; `commit` makes a MachineError of either.
    """
    dense, raw, seen = {}, {}, set()
    for name, tensor in tensors.items():
        plain = _dense(name, tensor)
        if str(plain.dtype) in RAW_DTYPES:
            raw[name] = [str(plain.dtype), list(plain.shape)]
            plain = plain.reshape(-1).view(torch.uint8)
        memory = plain.untyped_storage().data_ptr()
        dense[name] = plain.clone() if memory in seen else plain
        seen.add(memory)
    text = exact.dump({"raw": raw, "values": values}, VALUES)
    try:
        save_file(dense, folder / TENSORS)
    except (KeyError, ValueError) as error:
        who = [name for name, tensor in dense.items() if str(tensor.dtype) in str(error)]
        got = f"{error} in {who[0]}" if who else str(error)
        raise CheckpointError(TENSORS, got=got, expected="types safetensors knows") from error
    (folder / VALUES).write_bytes(text)


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read back what `write_state` wrote, bit for bit; tensors lie in CPU memory of their own.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    try:
        tensors = load_file(folder / TENSORS)
        stored = exact.load((folder / VALUES).read_bytes(), str(folder / VALUES))
    except (FileNotFoundError, SafetensorError) as error:
        raise CheckpointError(
            str(folder), got=str(error), expected=f"{TENSORS} and {VALUES} as they were saved"
        ) from error
    # The library maps the file; a copy does not depend on what later happens to it.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    for name, (dtype, shape) in stored["raw"].items():
        tensors[name] = tensors[name].view(RAW_DTYPES[dtype]).reshape(shape)
    return tensors, stored["values"]


def flatten_optimizer(
    optimizer: Optimizer, names: list[str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that an optimizer keeps, as named tensors and JSON-able values.

    Args:
        optimizer: Any whose state hangs on its parameters, as all of torch.optim does.
        names: The name of each of its parameters, in the order of its groups.

    Returns:
        Tensors under `optimizer/<parameter>/<key>` (and `optimizer/group-<i>/<option>`), not
        copied; and the rest, with the shape and type of each parameter.

    Raises:
        CheckpointError: The names do not fit the parameters.
    """
    parameters = _by_name(optimizer, names)
    strangers = optimizer.state.keys() - set(parameters.values())
    if strangers:
        raise _refusal(f"state under {len(strangers)} keys that are none of its parameters")
    tensors: dict[str, Tensor] = {}
    state = {
        name: _pull(optimizer.state[parameter], f"optimizer/{name}", tensors)
        for name, parameter in parameters.items()
        if parameter in optimizer.state
    }
    values = {
        "class": type(optimizer).__name__,
        "parameters": {name: _looks(parameter) for name, parameter in parameters.items()},
        "groups": [
            _pull(_options(group), f"optimizer/group-{i}", tensors)
            for i, group in enumerate(optimizer.param_groups)
        ],
        "sizes": [len(group["params"]) for group in optimizer.param_groups],
        "state": state,
        "on_cpu": [name for name in tensors if _stays_on_cpu(name, tensors[name], parameters)],
    }
    return tensors, values


def restore_optimizer(
    optimizer: Optimizer, names: list[str], tensors: Mapping[str, Tensor], values: dict[str, Any]
) -> None:
    """Put back what `flatten_optimizer` gave, bit for bit; the optimizer then goes on from there.

    Everything is checked first: when this raises, the optimizer is as it was.

    Args:
        optimizer: A fresh one of the same class, over the same parameters in the same groups.
        names: The name of each of its parameters, in the order of its groups.
        tensors: Tensors by name; others among them are left alone.
        values: The values.

    Raises:
        CheckpointError: Class, groups, names, shapes or types differ, or a tensor is missing.
    """
    parameters = _by_name(optimizer, names)
    _compare(optimizer, parameters, values)
    on_cpu = frozenset(values["on_cpu"])
    groups: list[dict[str, Any]] = []
    places: dict[Tensor, _Place] = {}
    library = type(optimizer).__module__.partition(".")[0]
    for group, saved in zip(optimizer.param_groups, values["groups"], strict=True):
        groups.append(_push(saved, _Place(tensors, _device_of_options(group))))
        # Capturable and fused optimizers count steps on the device, others where they did before.
        counts_on_device = saved.get("capturable") or saved.get("fused")
        exempt = frozenset() if counts_on_device else on_cpu
        places |= {p: _Place(tensors, p.device, exempt, library) for p in group["params"]}
    kept = {
        parameters[name]: _push(saved, places[parameters[name]])
        for name, saved in values["state"].items()
    }
    optimizer.state.clear()
    optimizer.state.update(kept)
    for group, options in zip(optimizer.param_groups, groups, strict=True):
        group.update(options)


def _by_name(optimizer: Optimizer, names: list[str]) -> dict[str, Tensor]:
    """The parameters of an optimizer under their names."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if len(parameters) != len(names):
        raise _refusal(f"{len(names)} names for {len(parameters)} parameters")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise _refusal(f"the name {twice[0]} twice")
    return dict(zip(names, parameters, strict=True))


def _options(group: dict[str, Any]) -> dict[str, Any]:
    """The options of a group, without what the parameter list says already."""
    return {key: value for key, value in group.items() if key not in ("params", "param_names")}


def _looks(parameter: Tensor) -> list[Any]:
    return [list(parameter.shape), str(parameter.dtype).removeprefix("torch.")]


def _compare(optimizer: Optimizer, parameters: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Raise CheckpointError, naming what differs, unless the state belongs to this optimizer."""
    name = type(optimizer).__name__
    if values["class"] != name:
        raise _refusal(f"state of {values['class']}", f"state of {name}")
    saved = values["parameters"]
    for got, who in (
        ("no state for", [name for name in parameters if name not in saved]),
        ("state for unknown", [name for name in saved if name not in parameters]),
    ):
        if who:
            more = f" and {len(who) - 5} more" if len(who) > 5 else ""
            raise _refusal(f"{got} {', '.join(who[:5])}{more}", "the same parameters")
    for name, parameter in parameters.items():
        if saved[name] != _looks(parameter):
            (old, old_type), (new, new_type) = saved[name], _looks(parameter)
            raise _refusal(f"{name}: {old} {old_type} was saved", f"{new} {new_type}")
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if values["sizes"] != sizes or list(saved) != list(parameters):
        raise _refusal("parameters in another order or in other groups", "the same groups")


def _pull(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The value with each tensor in it replaced by its name, under which it is put in `tensors`."""
    if isinstance(value, Tensor) and is_wrapped(value):
        parts, values = take_apart(value)
        return {"$wrapped": values, "parts": _pull(parts, name, tensors)}
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"$tensor": name}
    if isinstance(value, Mapping):
        return {key: _pull(inner, f"{name}/{key}", tensors) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_pull(inner, f"{name}/{i}", tensors) for i, inner in enumerate(value))
    return value


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to get tensors from, and on which device to put copies of them."""

    tensors: Mapping[str, Tensor]
    device: torch.device
    on_cpu: Set[str] = frozenset()
    library: str = ""
    """Package of the optimizer."""

    def copy(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise _refusal(f"no tensor {name}", "every tensor that was saved")
        device = torch.device("cpu") if name in self.on_cpu else self.device
        return self.tensors[name].detach().to(device, copy=True)


def _push(value: Any, place: _Place) -> Any:
    """The reverse of `_pull`, with copies of the tensors."""
    if isinstance(value, dict) and "$tensor" in value:
        return place.copy(value["$tensor"])
    if isinstance(value, dict) and "$wrapped" in value:
        return put_together(_push(value["parts"], place), value["$wrapped"], place.library)
    if isinstance(value, dict):
        return {key: _push(inner, place) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_push(inner, place) for inner in value)
    return value


def _stays_on_cpu(name: str, tensor: Tensor, parameters: dict[str, Tensor]) -> bool:
    """Whether a tensor of the state belongs on the CPU wherever its parameter is.

    Where all is on the CPU, that cannot be seen; then the step count does, as in most of torch.
    """
    owner, _, key = name.removeprefix("optimizer/").rpartition("/")
    if tensor.device.type != "cpu" or owner not in parameters:
        return False
    return key == "step" or parameters[owner].device.type != "cpu"


def _device_of_options(group: dict[str, Any]) -> torch.device:
    """Where tensors among the options of a group lie now, if any: a learning rate may be one."""
    found = (value.device for value in group.values() if isinstance(value, Tensor))
    return next(found, torch.device("cpu"))


def _dense(name: str, tensor: Tensor) -> Tensor:
    """The tensor in CPU memory, without gaps."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise CheckpointError(
            name,
            got=f"a tensor with layout {tensor.layout}, type {tensor.dtype}, on {tensor.device}",
            expected="a dense tensor with values",
        )
    return tensor.detach().to("cpu").contiguous()


def _refusal(got: str, expected: str = "one name for each parameter") -> CheckpointError:
    return CheckpointError("optimizer", got=got, expected=expected)
