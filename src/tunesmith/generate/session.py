"""One batch of prompts under way: the cache, the mask, and the next logits of each row.

Legend for shapes: B rows still generating, T tokens seen so far with padding, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from tunesmith.errors import DataError


class Session:
    """Rows that are generated side by side, padded on the left so that all end at one column.

    Args:
        model: A causal language model of transformers, wrapped by PEFT or not, in eval mode.
        prompts: At least one, none empty.
        pad_id: Fills the left of the shorter ones; masked.
    """

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad_id: int
    ) -> None:
        self.model = model
        self._cache = DynamicCache(config=model.config)
        width = max(map(len, prompts))
        padding = [width - len(prompt) for prompt in prompts]
        rows = [[pad_id] * pad + list(p) for pad, p in zip(padding, prompts, strict=True)]
        self._ids_BT = torch.tensor(rows, device=model.device)
        padding_B1 = torch.tensor(padding, device=model.device)[:, None]
        columns_T = torch.arange(width, device=model.device)
        # Without any padding the mask says nothing, and attention is faster without it.
        self._mask_BT = (columns_T >= padding_B1).long() if any(padding) else None
        self._positions_BT = (columns_T - padding_B1).clamp_(min=0)

    @property
    def device(self) -> torch.device:
        """Where the tokens are."""
        return self._ids_BT.device

    @torch.inference_mode()
    def logits(self) -> Tensor:
        """Logits of the token that comes next in each row, (B, V) in the dtype of the model."""
        # An index instead of 1: for a strided slice torch copies the whole head once per row.
        last = torch.tensor([self._ids_BT.shape[1] - 1], device=self.device)
        out = self.model(
            input_ids=self._ids_BT,
            attention_mask=self._mask_BT,
            position_ids=self._positions_BT,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=last,
        )
        return out.logits[:, -1]

    @torch.inference_mode()
    def append(self, tokens_B: Tensor) -> None:
        """Make `tokens_B`, (B,) int64, what the model reads next."""
        self._ids_BT = tokens_B[:, None]
        self._positions_BT = self._positions_BT[:, -1:] + 1
        if self._mask_BT is not None:
            self._mask_BT = torch.cat([self._mask_BT, torch.ones_like(self._ids_BT)], dim=1)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone; the others cost nothing from here on."""
        index = torch.tensor(rows, device=self.device)
        # Unlike batch_select_indices, layers of every kind have it, linear attention included.
        self._cache.reorder_cache(index)
        self._ids_BT = self._ids_BT[index]
        self._positions_BT = self._positions_BT[index]
        if self._mask_BT is not None:
            self._mask_BT = self._mask_BT[index]


@contextmanager
def answering(model: nn.Module) -> Iterator[None]:
    """Dropout off for the time of the block; each module's own mode is put back afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def max_tokens(model: PreTrainedModel) -> int | None:
    """Most tokens, prompt and answer together, that `model` has positions for; None without end."""
    # Models with relative positions have no such key.
    return getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)


def check_prompts(prompts: Sequence[Sequence[int]], longest: int | None) -> None:
    """See that every prompt can be answered.

    Raises:
        DataError: A prompt is empty or leaves no room for a single token; counted from 1.
    """
    for number, prompt in enumerate(prompts, 1):
        if not prompt:
            raise DataError(f"prompt {number}", got="no tokens", expected="at least one")
        if longest is not None and len(prompt) >= longest:
            raise DataError(
                f"prompt {number}",
                got=f"{len(prompt)} tokens",
                expected=f"at most {longest - 1}: the model has {longest} positions, "
                "and an answer needs one",
                hint="shorten the prompt, or use a base with a longer context",
            )
