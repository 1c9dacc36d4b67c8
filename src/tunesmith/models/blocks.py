"""Fast forward passes of the modules that a transformer block is made of.

Each maker looks at the parts of a module and returns a forward function, or None where the parts
are not those it knows; whether the function computes the same is for `fast` to find out.

Legend: T tokens of a pack, H query heads, G key heads, R = H / G, D width of a head, C all heads of
q, k and v side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models import linear, ways
from tunesmith.models.attention import Sight
from tunesmith.models.block_attention import attend
from tunesmith.models.given import Given
from tunesmith.models.kernels.gate import activate, gated
from tunesmith.models.kernels.norm import rms_norm
from tunesmith.models.kernels.rotary import rotary_split, turned
from tunesmith.models.linear import Projection
from tunesmith.models.segments import Segment, segments
from tunesmith.models.ways import Place

Forward = Callable[..., Any]


def self_attention(module: nn.Module, sight: Sight | None) -> Forward | None:
    """Attention with rotary positions: one projection for q, k, v; taken for packs."""
    if sight is None or not hasattr(module, "head_dim"):
        return None
    parts = [getattr(module, name, None) for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
    if not all(isinstance(part, nn.Module) and linear.fits(part) for part in parts):
        return None
    norms = [getattr(module, name, None) for name in ("q_norm", "k_norm")]
    if not all(_is_of(norm, module.head_dim) for norm in norms):
        return None
    qkv, out = Projection(parts[:3]), Projection(parts[3:])
    seen = _seen_on_cpu if parts[0].weight.device.type == "cpu" else _seen

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
        known = lengths is not None and _turn_whole_heads(position_embeddings, self.head_dim)
        if not known or past_key_values is not None or dropout:
            return type(self).forward(
                self,
                hidden_states,
                position_embeddings=position_embeddings,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                **kwargs,
            )
        dtype = _dtype(hidden_states)
        tables = tuple(table[0].float().contiguous() for table in position_embeddings)
        given = kwargs.get("given")
        laid = segments(lengths if given is None else given.lengths, kwargs.get("prefixes"))
        pack = _Pack(laid, tables, sight, given)
        return out(seen(self, qkv(hidden_states, dtype)[0], pack), dtype)[None], None

    return forward


def _turn_whole_heads(tables: tuple[Tensor, Tensor] | None, width: int) -> bool:
    """Whether positions turn all of a head; narrower tables turn a part, as in GLM."""
    return tables is not None and tables[0].shape[-1] == width


def _is_of(norm: nn.Module | None, width: int) -> bool:
    """Whether there is no norm, or one over the width of a head."""
    return norm is None or norm.weight.shape == (width,)


@dataclass(frozen=True, slots=True)
class _Pack:
    """What attention must know of a pack besides queries, keys and values.

    Attributes:
        parts: Its segments.
        tables: Cosines and sines of the positions, (T, D) float32 each.
        sight: How the module attends.
        given: Keys and values before each example, which the segments count; None for none.
    """

    parts: tuple[Segment, ...]
    tables: tuple[Tensor, Tensor]
    sight: Sight
    given: Given | None = None

    @property
    def shared(self) -> bool:
        """Whether any segment continues another one."""
        return any(part.num_shared for part in self.parts)


def _seen(module: nn.Module, qkv_TC: Tensor, pack: _Pack) -> Tensor:
    """(T, H D): what each token gets to see; heads stay where the projection put them."""
    q_THD, k_TGD, v_TGD = _heads(module, qkv_TC)
    q_THD, k_TGD = turned(q_THD, k_TGD, *pack.tables)
    if pack.given is not None:
        q_THD, k_TGD, v_TGD = pack.given.among(module.layer_idx, q_THD, k_TGD, v_TGD, dim=0)
    here = Place(qkv_TC.device, qkv_TC.dtype, module.head_dim)
    attend_here = ways.choose(here, shared=pack.shared)
    seen_THD = attend_here(q_THD, k_TGD, v_TGD, pack.parts, pack.sight.scale, pack.sight.window)
    if pack.given is not None:
        seen_THD = pack.given.own(seen_THD, dim=0)
    return seen_THD.reshape(len(qkv_TC), -1)


def _seen_on_cpu(module: nn.Module, qkv_TC: Tensor, pack: _Pack) -> Tensor:
    """The same with heads laid out for matrix products."""
    heads, groups = _counts(module, qkv_TC)
    if getattr(module, "q_norm", None) is not None:
        parts = [part.reshape(len(qkv_TC), -1) for part in _heads(module, qkv_TC)]
        qkv_TC = torch.cat(parts, 1)
    q_GTRD, k_GTD, v_GTD = rotary_split(qkv_TC, *pack.tables, heads, groups)
    how = (pack.parts, pack.sight.scale, pack.sight.window)
    if pack.given is None:
        return attend(q_GTRD, k_GTD, v_GTD, *how)
    q_GTRD, k_GTD, v_GTD = pack.given.among(module.layer_idx, q_GTRD, k_GTD, v_GTD, dim=1)
    return pack.given.own(attend(q_GTRD, k_GTD, v_GTD, *how), dim=0)


def _heads(module: nn.Module, qkv_TC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(T, H, D), (T, G, D), (T, G, D): queries, keys and values.

    Queries and keys of each head are normed before they are turned, as Qwen3 does (2505.09388).
    """
    heads, groups = _counts(module, qkv_TC)
    q, k, v = qkv_TC.view(len(qkv_TC), -1, module.head_dim).split([heads, groups, groups], 1)
    if getattr(module, "q_norm", None) is None:
        return q, k, v
    return module.q_norm(q), module.k_norm(k), v


def _counts(module: nn.Module, qkv_TC: Tensor) -> tuple[int, int]:
    """H query heads and G key heads."""
    heads = module.o_proj.in_features // module.head_dim
    return heads, (qkv_TC.shape[1] // module.head_dim - heads) // 2


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
    """A layer alone: LoRA in modules that are not known as a whole, and the head."""
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
