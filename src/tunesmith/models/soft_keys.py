"""Virtual tokens that are keys and values in every layer: prefix tuning, arXiv:2101.00190, eq. 3.

Positions count them, but none of them is turned: they are what PEFT gives to transformers as a
cache that was filled before.

Legend: P virtual tokens, B lines, L layers, G key heads, D width of a head.
"""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tunesmith.errors import ModelError
from tunesmith.models.batch import Batch
from tunesmith.models.given import Given
from tunesmith.models.soft import Keywords, Laid, Soft, ahead
from tunesmith.models.soft_layout import before_each, in_lines


class SoftKeys(Soft):
    """A soft prompt of keys and values."""

    def keys_and_values(self, dtype: torch.dtype) -> Tensor:
        """(L, 2, G, P, D): keys and values of each layer."""
        heads = self.config.num_attention_heads
        width = self.config.token_dim // heads
        numbers = self.numbers().to(dtype).view(self.num_tokens, -1, 2, heads, width)
        return numbers.permute(1, 2, 3, 0, 4)

    def cache(self, lines: int, dtype: torch.dtype) -> DynamicCache:
        """A cache of transformers that is filled with them, in each of `lines` lines."""
        filled = DynamicCache()
        for layer, both_2GPD in enumerate(self.keys_and_values(dtype)):
            key, value = both_2GPD[:, None].expand(-1, lines, -1, -1, -1)
            filled.update(key, value, layer)
        return filled

    def lay(self, batch: Batch, model: PreTrainedModel, packs: bool) -> Laid:
        """See `Soft.lay`; a pack that transformers computes becomes lines.

        Raises:
            ModelError: Layers that would be computed again without what they were given.
        """
        dtype = _computed(model)
        if batch.packed and packs:
            around = before_each(batch, self.num_tokens)
            given = Given(self.keys_and_values(dtype), around.index[0], around.kept, around.lengths)
            moved = replace(batch, positions=batch.positions + self.num_tokens)
            return Laid(batch, moved, keywords={"given": given})
        _require_no_recomputing(model)
        batch = in_lines(batch)
        lines = len(batch.input_ids)
        ones_BP = batch.attention_mask.new_ones(lines, self.num_tokens)
        moved = replace(
            batch,
            positions=batch.positions + self.num_tokens,
            attention_mask=torch.cat([ones_BP, batch.attention_mask], 1),
        )
        return Laid(batch, moved, keywords={"past_key_values": self.cache(lines, dtype)})

    def call(self, model: PreTrainedModel, keywords: Keywords) -> Keywords:
        """See `Soft.call`."""
        cache = self.cache(len(keywords["input_ids"]), model.dtype)
        return {**ahead(keywords, self.num_tokens), "past_key_values": cache}


def _computed(model: PreTrainedModel) -> torch.dtype:
    """The type that keys and values are computed in."""
    kind = model.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else model.dtype


def _require_no_recomputing(model: PreTrainedModel) -> None:
    """Refuse layers that drop their cache to be computed again in the backward pass."""
    if any(m.training and getattr(m, "gradient_checkpointing", False) for m in model.modules()):
        raise ModelError(
            "model.gradient_checkpointing",
            got="true, with keys and values that are given to transformers as a cache",
            expected="false, or packs in Tunesmith's own attention",
            hint="set data.packing: true and train.kernels: fast, or train without checkpointing",
        )
