"""Rows side by side with padding: for models whose attention goes its own way.

Works for whatever transformers' own cache works for, linear attention and soft-capped logits
included. Rows can only join when none is under way.

Legend: B rows under way, T tokens seen so far with padding, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tunesmith.generate.session import Prompt


class PaddedSession:
    """Rows that are padded on the left, so that all end at one column.

    Args:
        model: A causal language model of transformers, in eval mode.
        max_rows: Most rows at a time.
        pad_id: Fills the left of the shorter ones; masked.
    """

    prompt_tokens = None

    def __init__(self, model: PreTrainedModel, max_rows: int, pad_id: int) -> None:
        self._model = model
        self._max_rows = max_rows
        self._pad_id = pad_id
        self._num_rows = 0

    def room(self) -> int:
        """How many rows may join at the next step."""
        return 0 if self._num_rows else self._max_rows

    @torch.no_grad()
    def step(self, tokens: Sequence[int], prompts: Sequence[Prompt] = ()) -> Tensor:
        """Read the last token of each row, or `prompts` when no row is under way.

        Returns:
            (B, V) logits of the token that comes next in each row, in the dtype of the model.
        """
        if prompts:
            self._begin(prompts)
        else:
            self._read(tokens)
        # An index instead of 1: for a strided slice torch copies the whole head once per row.
        last = torch.tensor([self._ids_BT.shape[1] - 1], device=self._model.device)
        out = self._model(
            input_ids=self._ids_BT,
            attention_mask=self._mask_BT,
            position_ids=self._positions_BT,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=last,
        )
        return out.logits[:, -1]

    @torch.no_grad()
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with `rows` alone; the others cost nothing from here on."""
        self._num_rows = len(rows)
        index = torch.tensor(rows, dtype=torch.int64, device=self._model.device)
        # Unlike batch_select_indices, layers of every kind have it, linear attention included.
        self._cache.reorder_cache(index)
        self._positions_BT = self._positions_BT[index]
        if self._mask_BT is not None:
            self._mask_BT = self._mask_BT[index]

    def _begin(self, prompts: Sequence[Prompt]) -> None:
        ids = [prompt.ids for prompt in prompts for _ in range(prompt.copies)]
        width, device = max(map(len, ids)), self._model.device
        padding = [width - len(prompt) for prompt in ids]
        rows = [[self._pad_id] * pad + list(row) for pad, row in zip(padding, ids, strict=True)]
        self._num_rows = len(rows)
        self._cache = DynamicCache(config=self._model.config)
        self._ids_BT = torch.tensor(rows, device=device)
        padding_B1 = torch.tensor(padding, device=device)[:, None]
        columns_T = torch.arange(width, device=device)
        # Without any padding the mask says nothing, and attention is faster without it.
        self._mask_BT = (columns_T >= padding_B1).long() if any(padding) else None
        self._positions_BT = (columns_T - padding_B1).clamp_(min=0)

    def _read(self, tokens: Sequence[int]) -> None:
        self._ids_BT = torch.tensor(tokens, device=self._model.device)[:, None]
        self._positions_BT = self._positions_BT[:, -1:] + 1
        if self._mask_BT is not None:
            self._mask_BT = torch.cat([self._mask_BT, torch.ones_like(self._ids_BT)], dim=1)
