"""Soft prompts: trained virtual tokens before every example, the model itself frozen.

A soft prompt is a module of the model that it was installed in, so whoever has the model has it.
There are two kinds: virtual tokens that enter as embeddings (`soft_tokens`), and such that are keys
and values in every layer (`soft_keys`). PEFT's encoders make their numbers and its files hold them
(`soft_wrapper`).

`Policy` and `generate` place them themselves. A plain call of the model with token ids gets them as
well, before each line, and answers as PEFT's wrapper around the model does: with logits of the line
alone, with scores, or with states, of the virtual tokens first where they have some. Scores are
those of the last place, as transformers reads them where it is given embeddings: for padded lines
there is `Policy.scores`.

Legend: P virtual tokens, B lines, T tokens of a line, C numbers of a virtual token, D width of the
model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.models.batch import Batch

NAME = "soft_prompt"
"""Name of the module inside the model."""

Keywords = dict[str, Any]
"""Arguments of a call of the model."""

LAID = frozenset(("given", "lengths", "step"))
"""Keywords of Tunesmith's own calls, which have placed the virtual tokens."""


@dataclass(frozen=True, slots=True)
class Laid:
    """A batch as it is computed.

    Attributes:
        rows: Whose ids are embedded.
        batch: The same with positions, places, lengths and mask as the model gets them.
        place: Turns the embeddings of the ids, (B, T, D), into those that the model gets; None
            where it gets the ids as they are.
        keywords: What the model gets besides.
        kept: (B T,) int64: where each token of `rows` lies among those computed, counted through
            them line by line; None where they alone are computed.
    """

    rows: Batch
    batch: Batch
    place: Callable[[Tensor], Tensor] | None = None
    keywords: Keywords = field(default_factory=dict)
    kept: Tensor | None = None


class Soft(nn.Module, ABC):
    """A soft prompt; each kind says how it is placed.

    Args:
        encoder: PEFT's module that makes the numbers of the virtual tokens.
        config: PEFT's configuration of it.
    """

    def __init__(self, encoder: nn.Module, config: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config
        self.enabled = True

    @property
    def num_tokens(self) -> int:
        """P."""
        return self.config.num_virtual_tokens

    def numbers(self) -> Tensor:
        """(P, C) float32, in training as they will be saved: no lower precision reaches them."""
        weight = self.encoder.embedding.weight
        if self.config.inference_mode:
            return weight  # What was saved is what the encoder made.
        numbers_1P = torch.arange(self.num_tokens, device=weight.device)[None]
        with torch.autocast(weight.device.type, enabled=False):
            return self.encoder(numbers_1P)[0]

    @abstractmethod
    def lay(self, batch: Batch, model: PreTrainedModel, packs: bool) -> Laid:
        """Put the virtual tokens before each example of a batch; a shared prefix begins with them.

        Args:
            batch: Of one pass.
            model: That will compute it.
            packs: Whether Tunesmith's own attention does where the batch is packed.
        """

    @abstractmethod
    def call(self, model: PreTrainedModel, keywords: Keywords) -> Keywords:
        """Put them before each line of a plain call, which has `input_ids`.

        Args:
            model: That is called.
            keywords: Of the call.
        """


def install(soft: Soft, model: PreTrainedModel) -> None:
    """Let `model` answer with `soft` from now on."""
    model.add_module(NAME, soft)
    model.register_forward_pre_hook(_placed, with_kwargs=True)


def of(model: nn.Module) -> Soft | None:
    """The soft prompt that `model` answers with; None without one, and while it is off."""
    soft = getattr(model, NAME, None)
    return soft if soft is not None and soft.enabled else None


def num_ahead(model: nn.Module) -> int:
    """Virtual tokens before everything that `model` reads; 0 without a soft prompt."""
    soft = of(model)
    return 0 if soft is None else soft.num_tokens


@contextmanager
def off(model: nn.Module) -> Iterator[None]:
    """For the time of the block `model` answers without its soft prompt, if it has one."""
    soft = of(model)
    if soft is not None:
        soft.enabled = False
    try:
        yield
    finally:
        if soft is not None:
            soft.enabled = True


def ahead(keywords: Keywords, num_tokens: int) -> Keywords:
    """The keywords of a plain call, its mask and positions behind so many tokens more."""
    mask_BT, positions_BT = keywords.get("attention_mask"), keywords.get("position_ids")
    moved: Keywords = {}
    if mask_BT is not None:
        ones_BP = mask_BT.new_ones(len(mask_BT), num_tokens)
        moved["attention_mask"] = torch.cat([ones_BP, mask_BT], 1)
    if positions_BT is not None:
        moved["position_ids"] = positions_BT + num_tokens
    return {**keywords, **moved}


def _placed(
    model: PreTrainedModel, args: tuple[Any, ...], keywords: Keywords
) -> tuple[tuple[Any, ...], Keywords] | None:
    soft = of(model)
    if args:
        keywords = {"input_ids": args[0], **keywords}
    cache = keywords.get("past_key_values")
    begun = cache is not None and cache.get_seq_length() > 0
    own = keywords.get("input_ids") is None or not LAID.isdisjoint(keywords)
    return None if soft is None or begun or own else ((), soft.call(model, keywords))
