"""How LoRA's A and B start, where that is more than a draw.

    pissa    B A = the r largest singular parts of W, the rest stays frozen; arXiv:2404.02948
    olora    B A = the first r columns and rows of Q R = W; arXiv:2406.01775
    corda    as pissa, of W C with C the covariance of the inputs; arXiv:2406.05223
    eva      A = the main directions of the inputs, more ranks where they vary; arXiv:2410.07170
    loftq    B A = the r largest singular parts of W - Q, Q the quantised W; arXiv:2310.08659

The first four are PEFT's. Of LoftQ's alternation there is one round here: with it Q is the base as
`model.quantize` makes it anew each time, so the adapter loads over that and over nothing special.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.config import EvaConfig
from peft.tuners.lora.eva import initialize_lora_eva_weights
from peft.utils.other import get_pattern_key
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.adapters.base import Material
from tunesmith.adapters.parts import covariance
from tunesmith.adapters.parts.layers import ADAPTER, refusals
from tunesmith.errors import RecipeError
from tunesmith.models.quantized import QuantizedLinear
from tunesmith.models.resting import resting

MOVE_BASE = frozenset({"pissa", "olora", "corda"})
"""Those that take out of W what they put into B A."""
FROM_ROWS = frozenset({"corda", "eva"})
"""Those that look at what the user's rows make of the layers' inputs."""


def started(
    model: PreTrainedModel, config: LoraConfig, init: str, material: Material | None
) -> PeftModel:
    """`model` with LoRA on it that starts as `init` says.

    Args:
        model: The base; the kinds in `MOVE_BASE` change its weights.
        config: PEFT's configuration, the start left out.
        init: A start of the list above, `default` or `gaussian`.
        material: What the start is computed from, where it needs any.

    Raises:
        RecipeError: There is no material, or no quantised layer for `loftq`.
    """
    config.init_lora_weights = (init not in {"default", "loftq"} and init) or True
    if init in FROM_ROWS:
        rows = _rows(material, init)
        with refusals("adapter.init"), resting(model):
            return _KNOWING[init](model, config, rows)
    with refusals("adapter.init"):
        peft_model = get_peft_model(model, config)
    if init == "loftq":
        _put_back_what_rounding_took(model, material)
    return peft_model


def _rows(material: Material | None, init: str) -> Sequence[Tensor]:
    rows = [] if material is None else material.rows()
    if not rows:
        raise RecipeError(
            "adapter.init", got=f"{init} without rows to look at", expected="rows to train on"
        )
    return rows


def _from_covariance(
    model: PreTrainedModel, config: LoraConfig, rows: Sequence[Tensor]
) -> PeftModel:
    ranks = {
        name: config.rank_pattern.get(get_pattern_key(config.rank_pattern, name), config.r)
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in config.target_modules and isinstance(module, nn.Linear)
    }
    for name, parts in covariance.parts(model, ranks, rows).items():
        model.get_submodule(name).eigens = parts  # PEFT takes them from there, and away.
    return get_peft_model(model, config)


def _from_variance(model: PreTrainedModel, config: LoraConfig, rows: Sequence[Tensor]) -> PeftModel:
    config.eva_config = EvaConfig()
    peft_model = get_peft_model(model, config)
    shown = [{"input_ids": i[None], "attention_mask": torch.ones_like(i)[None]} for i in rows]
    initialize_lora_eva_weights(peft_model, shown, show_progress_bar=False)
    config.eva_config, config.init_lora_weights = None, True
    return peft_model


_KNOWING: dict[str, Callable[[PreTrainedModel, LoraConfig, Sequence[Tensor]], PeftModel]] = {
    "corda": _from_covariance,
    "eva": _from_variance,
}


@torch.no_grad()
def _put_back_what_rounding_took(model: PreTrainedModel, material: Material | None) -> None:
    """Set s B A to the best approximation of W - Q of its rank, in every LoRA layer."""
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLayer)]
    layers = [(n, m) for n, m in layers if isinstance(m.base_layer, QuantizedLinear)]
    if not layers or material is None:
        raise RecipeError(
            "adapter.init",
            got="loftq over a base that is not quantised",
            expected="model.quantize: nf4 or int8, whose rounding it makes up for",
        )
    for name, layer in layers:
        published = material.published(name).to(layer.base_layer.weight.device)
        lost = published.float() - layer.base_layer.weight_in(torch.float32)
        u, s, vh = torch.linalg.svd(lost, full_matrices=False)
        rank, root = layer.r[ADAPTER], s.sqrt()
        layer.lora_A[ADAPTER].weight.copy_(root[:rank, None] * vh[:rank])
        layer.lora_B[ADAPTER].weight.copy_(u[:, :rank] * root[:rank] / layer.scaling[ADAPTER])


@contextmanager
def put(trained: dict[str, nn.Parameter], values: dict[str, Tensor]) -> Iterator[None]:
    """Other values in place of the trained ones for the time of the block."""
    own = {name: trained[name].data for name in values}
    try:
        for name, value in values.items():
            trained[name].data = value
        yield
    finally:
        for name, value in own.items():
            trained[name].data = value
