"""Rows side by side with padding: for models whose attention goes its own way.

Works for whatever transformers' own cache works for, linear attention and soft-capped logits
included. Rows can only join when none is under way. A soft prompt stands behind the padding, right
before the row; given keys stand in the cache before everything.

Legend: B rows under way, T tokens seen so far with padding, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tunesmith.generate.session import Prompt
from tunesmith.models import soft as soft_prompt
from tunesmith.models.soft_keys import SoftKeys
from tunesmith.models.soft_tokens import SoftTokens


class PaddedSession:
    """Rows that are padded on the left, so that all end at one column.

    Args:
        model: A causal language model of transformers, in eval mode.
        max_rows: Most rows at a time.
        pad_id: Fills the left of the shorter ones; masked.
    """

    def __init__(self, model: PreTrainedModel, max_rows: int, pad_id: int) -> None:
        # 0 lets one prompt join at a time, and then nothing is padded.
        self.prompt_tokens = 0 if _must_not_pad(model) else None
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
        last = torch.tensor([self._num_columns - 1], device=self._model.device)
        out = self._model(
            **self._inputs,
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
        device, soft = self._model.device, soft_prompt.of(self._model)
        inside = soft.num_tokens if isinstance(soft, SoftTokens) else 0
        width = max(map(len, ids)) + inside
        padding = [width - inside - len(row) for row in ids]
        rows = [
            [self._pad_id] * (pad + inside) + list(row)
            for pad, row in zip(padding, ids, strict=True)
        ]
        self._num_rows, self._num_columns = len(rows), width
        ids_BT = torch.tensor(rows, device=device)
        padding_B1 = torch.tensor(padding, device=device)[:, None]
        columns_T = torch.arange(width, device=device)
        # Without any padding the mask says nothing, and attention is faster without it.
        self._mask_BT = (columns_T >= padding_B1).long() if any(padding) else None
        self._positions_BT = (columns_T - padding_B1).clamp_(min=0)
        self._cache, self._inputs = DynamicCache(config=self._model.config), {"input_ids": ids_BT}
        if isinstance(soft, SoftTokens):
            self._inputs = {"inputs_embeds": self._embedded(soft, ids_BT, padding_B1)}
        elif isinstance(soft, SoftKeys):
            self._begin_behind(soft)

    def _embedded(self, soft: SoftTokens, ids_BT: Tensor, padding_B1: Tensor) -> Tensor:
        """(B, T, D): virtual tokens between the padding and the row, which left room for them."""
        embedded_BTD = self._model.get_input_embeddings()(ids_BT)
        line_B1 = torch.arange(len(ids_BT), device=ids_BT.device)[:, None]
        column_BP = padding_B1 + torch.arange(soft.num_tokens, device=ids_BT.device)
        embedded_BTD[line_B1, column_BP] = soft.embeddings(embedded_BTD.dtype)
        return embedded_BTD

    def _begin_behind(self, soft: SoftKeys) -> None:
        """Let all columns come behind those of given keys."""
        self._cache = soft.cache(self._num_rows, self._model.dtype)
        self._positions_BT += soft.num_tokens
        if self._mask_BT is not None:
            ones_BP = self._mask_BT.new_ones(self._num_rows, soft.num_tokens)
            self._mask_BT = torch.cat([ones_BP, self._mask_BT], 1)

    def _read(self, tokens: Sequence[int]) -> None:
        self._num_columns = 1
        self._inputs = {"input_ids": torch.tensor(tokens, device=self._model.device)[:, None]}
        self._positions_BT = self._positions_BT[:, -1:] + 1
        if self._mask_BT is not None:
            ones_B1 = self._mask_BT.new_ones(len(tokens), 1)
            self._mask_BT = torch.cat([self._mask_BT, ones_B1], dim=1)


def _must_not_pad(model: PreTrainedModel) -> bool:
    """Whether padding would lie between given keys and a window that counts columns."""
    kinds = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ()
    slides = any("sliding" in kind for kind in kinds)
    return slides and isinstance(soft_prompt.of(model), SoftKeys)
