"""Full fine-tuning: every weight of the base is trained.

Weights and moments are fp32 whatever the precision of the products: an update smaller than 2^-8 of
a bf16 weight would vanish.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Literal

from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from tunesmith.adapters.base import Attached, Saved, kinds
from tunesmith.config.section import Section

LEARNING_RATE = 2e-5
"""The rate of the Alpaca and Tulu recipes for full fine-tuning of small models (arXiv:2306.04751,
table 11). Measured on the starter, 40 steps of 8 E2E rows (docs/methods.md): held-out loss 1.70 at
6.7e-6, 1.51 at 2e-5, 1.39 at 6e-5, 1.34 at 1.8e-4, 1.40 at 5.4e-4. `learning_rate: auto` goes by
`multiple` and the width of the base instead: 1.3e-4 there."""
TRAINS_BASE = True
FOLDER = "model"


class Config(Section):
    """Keys of `adapter` with `name: full`."""

    name: Literal["full"] = "full"
    """Train every weight."""


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Let every parameter be trained; nothing is drawn, so `seed` changes nothing here."""
    model.requires_grad_(True)
    return Attached(
        model=model,
        trained=dict(model.named_parameters()),
        writer=model,
        disabled=None,
        targeted=dict(Counter(kinds(model, lambda name, module: True))),
        untargeted={},
    )


def multiple(config: Config) -> float:
    """The best rate as a multiple of that of full fine-tuning."""
    return 1.0


def write(attached: Attached, folder: Path, base_id: str) -> None:
    """Write a transformers model folder: config.json and safetensors."""
    attached.writer.save_pretrained(folder)


def saved(attached: Attached) -> Saved:
    """Every weight, those that share memory once, under the names that transformers writes."""
    model: PreTrainedModel = attached.writer
    tensors = remove_tied_weights_from_state_dict(model.state_dict(), model)
    return Saved(
        tensors=revert_weight_conversion(model, tensors),
        config_file="config.json",
        config=json.loads(model.config.to_json_string()),
    )
