"""Soft prompts as PEFT makes and loads them, installed in the model that they belong to."""

from contextlib import AbstractContextManager
from typing import Any

from peft import PeftModel, PeftType
from torch import nn
from transformers import PreTrainedModel

from tunesmith.models import soft
from tunesmith.models.soft import Soft
from tunesmith.models.soft_keys import SoftKeys
from tunesmith.models.soft_tokens import SoftTokens

KINDS: dict[PeftType, type[Soft]] = {
    PeftType.PROMPT_TUNING: SoftTokens,
    PeftType.P_TUNING: SoftTokens,
    PeftType.PREFIX_TUNING: SoftKeys,
}
"""PEFT's kinds that are known here."""


def installed(model: PreTrainedModel | PeftModel) -> PreTrainedModel | PeftModel:
    """Of a PEFT model around a soft prompt the base, with the prompt in it; any other as it is."""
    if not isinstance(model, PeftModel):
        return model
    config = model.active_peft_config
    if config.peft_type not in KINDS:
        return model
    base, encoder = model.get_base_model(), model.prompt_encoder[model.active_adapter]
    if not hasattr(base, soft.NAME):
        soft.install(KINDS[config.peft_type](encoder, config), base)
    return base


def disabled(model: nn.Module) -> AbstractContextManager[Any]:
    """For the time of the block the base inside `model` answers without the adapter around it.

    Args:
        model: PEFT's, or anything else that has its `disable_adapter`.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return soft.off(base) if soft.of(base) else model.disable_adapter()
