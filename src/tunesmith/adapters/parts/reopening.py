"""A saved adapter put on its base again, whatever its format."""

import json
import warnings
from pathlib import Path

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from tunesmith.adapters.base import load, own_format
from tunesmith.models.added_tokens import grow_to
from tunesmith.models.refuse import ADAPTER_CONFIG


def reopen(model: PreTrainedModel, folder: Path) -> nn.Module:
    """`model` with the adapter in `folder` on, in eval mode: to be called as the model is.

    Args:
        model: The base; it gets a row for each token that was added for the adapter.
        folder: In PEFT's format, or in that of one of the adapters here.
    """
    if own := own_format(folder):
        return load(own).reopen(model, folder)
    written = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    rows = written.get("trainable_token_indices") or {}
    grow_to(model, max((i for ids in rows.values() for i in ids), default=-1) + 1)
    with warnings.catch_warnings():
        # PEFT's advice about kinds of layers; whether it is right, the certificate says.
        warnings.simplefilter("ignore", UserWarning)
        return PeftModel.from_pretrained(model, folder).eval()
