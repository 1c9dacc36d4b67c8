"""Lays the fast compute paths over a model's own modules, and takes them off again.

No model is known by name. One forward pass of a dozen tokens shows what each module gets and
answers; a module takes a fast path only if that path, given the same, answers the same. So a model
that turns its positions otherwise, or whose feed-forward layer is built otherwise, keeps its own.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.errors import ModelError
from tunesmith.models import attention, blocks, linear, narrow
from tunesmith.models.attention import Sight
from tunesmith.models.resting import resting

LENGTHS = (5, 8)
"""Examples of the pack on which paths are compared: long enough that positions matter."""
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
"""Largest relative distance between the answers of two paths that count as the same; a path that
computes something else is off by a tenth and more."""


def lay_over(model: PreTrainedModel) -> dict[str, int]:
    """Switch every module that has a fast path to it.

    Returns:
        How many modules of each kind: `attention`, `feed-forward`, `norm`, `lora`.
    """
    with narrow.computing(model):
        return _lay_over(model)


def _lay_over(model: PreTrainedModel) -> dict[str, int]:
    take_off(model)
    laid = {"attention": 0, "feed-forward": 0, "norm": 0, "lora": 0}
    for call in _calls(model):
        for kind, make in blocks.KINDS.items():
            forward = make(call.module, call.sight)
            if forward is not None and _agrees(forward, call):
                call.module.forward = MethodType(forward, call.module)
                laid[kind] += 1
                break
    for module in model.modules():
        if isinstance(module, LoraLinear) and linear.fits(module):
            module.forward = MethodType(blocks.single(module), module)
            laid["lora"] += 1
    head = model.get_output_embeddings()
    if type(head) is nn.Linear:
        head.forward = MethodType(blocks.single(head), head)
    return laid


def take_off(model: nn.Module) -> None:
    """Go back to each module's own forward."""
    for module in model.modules():
        module.__dict__.pop("forward", None)


@dataclass
class _Call:
    """What a module was given, and what it answered."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: Any
    sight: Sight | None
    """What it asked of the attention function, if it did."""


def _calls(model: PreTrainedModel) -> list[_Call]:
    """One call of every module of the decoder, from a pass over a small pack."""
    found: list[_Call] = []
    asked: dict[nn.Module, Sight] = {}

    def note(module: nn.Module, args: tuple, kwargs: dict, answer: Any) -> None:
        found.append(_Call(module, args, kwargs, answer, asked.get(module)))

    decoder = model.get_decoder()
    hooks = [m.register_forward_hook(note, with_kwargs=True) for m in decoder.modules()]
    ids = torch.arange(sum(LENGTHS), device=model.device)[None] % model.config.vocab_size
    positions = torch.cat([torch.arange(n, device=model.device) for n in LENGTHS])[None]
    try:
        with resting(model), torch.no_grad(), attention.watched(model, asked), _hushed():
            decoder(input_ids=ids, position_ids=positions, lengths=LENGTHS, use_cache=False)
    except ModelError:
        return []  # Attention that packs cannot have: batches of this model are padded.
    finally:
        for hook in hooks:
            hook.remove()
    return found


@contextmanager
def _hushed() -> Iterator[None]:
    """Some layers of PEFT never call the layer inside, and warn of hooks there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _agrees(forward: Callable, call: _Call) -> bool:
    """Whether a fast path answers as the module itself did."""
    with torch.no_grad():
        got = forward(call.module, *call.args, **call.kwargs)
    a, b = _first(got).float(), _first(call.answer).float()
    if a.shape != b.shape:
        return False
    limit = CLOSE.get(_first(call.answer).dtype, 0.0)
    return bool((a - b).norm() <= limit * b.norm())


def _first(answer: Any) -> Tensor:
    return answer[0] if isinstance(answer, tuple) else answer
