"""Virtual tokens that enter as embeddings, and then pass through the model as any others do.

Prompt tuning (arXiv:2104.08691, section 2) and P-tuning (arXiv:2103.10385, section 3) are of this
kind.

Legend: P virtual tokens, B lines, T tokens of a line, D width of the model.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.models.batch import Batch
from tunesmith.models.soft import Keywords, Laid, Soft, ahead
from tunesmith.models.soft_layout import before_each


class SoftTokens(Soft):
    """A soft prompt of embeddings."""

    def embeddings(self, dtype: torch.dtype) -> Tensor:
        """(P, D)."""
        return self.numbers().to(dtype)

    def lay(self, batch: Batch, model: PreTrainedModel, packs: bool) -> Laid:
        """See `Soft.lay`."""
        around = before_each(batch, self.num_tokens)

        def place(embedded_BTD: Tensor) -> Tensor:
            return around.spread(self.embeddings(embedded_BTD.dtype), embedded_BTD)

        return Laid(batch, around.batch(batch), place, kept=around.kept)

    def call(self, model: PreTrainedModel, keywords: Keywords) -> Keywords:
        """See `Soft.call`."""
        ids_BT = keywords["input_ids"]
        moved = ahead(keywords, self.num_tokens)
        embedded_BTD = model.get_input_embeddings()(ids_BT)
        first_BPD = self.embeddings(embedded_BTD.dtype).expand(len(ids_BT), -1, -1)
        if (positions_BT := moved.get("position_ids")) is not None:
            first_P = torch.arange(self.num_tokens, device=positions_BT.device)
            first_BP = first_P.expand(len(positions_BT), -1)
            moved["position_ids"] = torch.cat([first_BP, positions_BT], 1)
        moved["inputs_embeds"] = torch.cat([first_BPD, embedded_BTD], 1)
        moved["input_ids"] = None
        if model.get_output_embeddings() is None:
            return moved  # Of scores and states none can be left out.
        kept = keywords.get("logits_to_keep", 0)
        if isinstance(kept, Tensor):
            kept = kept + self.num_tokens
        # 0 is all of them; the virtual tokens' own are none of the line's.
        kept = ids_BT.shape[1] if isinstance(kept, int) and kept == 0 else kept
        return {**moved, "logits_to_keep": kept}
