"""Fast forward passes of the modules that a transformer block is made of.

Each maker looks at the parts of a module and returns a forward function, or None where the parts
are not those it knows; whether the function computes the same is for `fast` to find out.

Legend: T tokens of a pack, D width of a head, C all heads of q, k and v side by side.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models import linear
from tunesmith.models.attention import Sight
from tunesmith.models.block_attention import attend
from tunesmith.models.kernels.gate import activate, gated
from tunesmith.models.kernels.norm import rms_norm
from tunesmith.models.kernels.rotary import rotary_split
from tunesmith.models.linear import Projection
from tunesmith.models.segments import segments

Forward = Callable[..., Any]


def self_attention(module: nn.Module, sight: Sight | None) -> Forward | None:
    """Attention with rotary positions: one projection for q, k, v; taken for packs on a CPU."""
    if sight is None or not hasattr(module, "head_dim"):
        return None
    parts = [getattr(module, name, None) for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
    if not all(isinstance(part, nn.Module) and linear.fits(part) for part in parts):
        return None
    width, norms = module.head_dim, [getattr(module, name, None) for name in ("q_norm", "k_norm")]
    if parts[0].weight.device.type != "cpu" or not all(_is_of(norm, width) for norm in norms):
        return None
    qkv, out = Projection(parts[:3]), Projection(parts[3:])
    heads, groups = parts[0].out_features // width, parts[1].out_features // width

    def forward(
        self: nn.Module,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        dropout = self.training and getattr(self, "attention_dropout", 0.0)
        lengths = kwargs.get("lengths")
        if lengths is None or past_key_values is not None or dropout:
            return type(self).forward(
                self,
                hidden_states,
                position_embeddings=position_embeddings,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                **kwargs,
            )
        dtype = _dtype(hidden_states)
        qkv_TC = qkv(hidden_states[0], dtype)
        if norms[0] is not None:
            qkv_TC = _normed(self, qkv_TC, heads, groups)
        cos_TD, sin_TD = (table[0].float().contiguous() for table in position_embeddings)
        q, k, v = rotary_split(qkv_TC, cos_TD, sin_TD, heads, groups)
        parts = segments(lengths, kwargs.get("prefixes"))
        seen = attend(q, k, v, parts, sight.scale, sight.window)
        return out(seen, dtype)[None], None

    return forward


def _is_of(norm: nn.Module | None, width: int) -> bool:
    """Whether there is no norm, or one over the width of a head."""
    return norm is None or norm.weight.shape == (width,)


def _normed(module: nn.Module, qkv_TC: Tensor, heads: int, groups: int) -> Tensor:
    """Queries and keys of each head normed before they are turned, as Qwen3 does (2505.09388)."""
    tokens, width = len(qkv_TC), module.head_dim
    q, k, v = qkv_TC.view(tokens, -1, width).split([heads, groups, groups], 1)
    parts = [module.q_norm(q), module.k_norm(k), v]
    return torch.cat([part.reshape(tokens, -1) for part in parts], 1)


def feed_forward(module: nn.Module, sight: Sight | None) -> Forward | None:
    """down(act(gate(x)) up(x)): one projection for gate and up, one pass for what lies between."""
    parts = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    activation = _activation(getattr(module, "act_fn", None))
    if not all(isinstance(part, nn.Module) and linear.fits(part) for part in parts):
        return None
    if activation is None:
        return None
    gate_up, down = Projection(parts[:2]), Projection(parts[2:])

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        dtype = _dtype(x)
        return down(gated(gate_up(x, dtype), activation), dtype)

    return forward


def _activation(function: Any) -> str | None:
    """Which of the activations that `gated` knows a function is, by its values."""
    if not callable(function):
        return None
    x = torch.linspace(-6, 6, 49)
    for name in ("silu", "gelu"):
        if torch.allclose(function(x), activate(x, name), rtol=1e-5, atol=1e-6):
            return name
    return None


def norm(module: nn.Module, sight: Sight | None) -> Forward | None:
    """RMS norm, with weights as they are or counted from 1 (as Gemma does)."""
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    own = dict(module.named_parameters(recurse=False))
    if not isinstance(eps, float) or not isinstance(weight, nn.Parameter) or len(own) != 1:
        return None
    if weight.ndim != 1 or isinstance(module, nn.LayerNorm):
        return None
    above_one = _counts_from_one(module)

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight + 1.0 if above_one else self.weight, eps)

    return forward


@torch.no_grad()
def _counts_from_one(module: nn.Module) -> bool:
    """Whether the module multiplies by 1 + weight: the larger of its two possible answers fits."""
    x = torch.ones_like(module.weight)[None]
    answer = module(x).float()
    plain = rms_norm(x, module.weight, 0.0).float()
    return bool((answer - plain).abs().mean() > 0.5)


def single(layer: nn.Module) -> Forward:
    """A LoRA layer alone, for modules that are not known as a whole."""
    projection = Projection([layer])

    def forward(self: nn.Module, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return projection(x, _dtype(x))

    return forward


def _dtype(x: Tensor) -> torch.dtype:
    """What products run in: the autocast type where that is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


KINDS: dict[str, Callable[[nn.Module, Sight | None], Forward | None]] = {
    "attention": self_attention,
    "feed-forward": feed_forward,
    "norm": norm,
}
"""Every maker by the kind of module it is for."""
