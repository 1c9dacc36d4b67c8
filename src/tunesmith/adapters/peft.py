"""Any other adapter of PEFT, by its kind and its own keys.

    adapter: {name: peft, kind: boft, boft_block_size: 4, target_modules: [q_proj, v_proj]}

The keys are those of PEFT's configuration of that kind and are checked against it; what each means,
and the paper it is from, is said in PEFT's documentation (arXiv ids stand there). Soft prompts and
kinds that need calls of their own while training are left out.
"""

from dataclasses import fields
from typing import Any, Literal

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from pydantic import ConfigDict, model_validator
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached
from tunesmith.adapters.parts import layers
from tunesmith.adapters.parts.files import saved, write
from tunesmith.adapters.parts.keys import From
from tunesmith.config.check import did_you_mean
from tunesmith.config.section import Section

__all__ = ["Config", "attach", "saved", "write"]

LEARNING_RATE = 1e-3
"""A middle of what the papers of these kinds use, 1e-4 to 1e-2: give your own."""
TRAINS_BASE = False
FOLDER = "adapter"

OWN = frozenset({"task_type", "peft_type", "inference_mode", "base_model_name_or_path", "revision"})
"""Keys of PEFT that are set here."""
LEFT_OUT = {
    "adalora": "needs to be told of every step",
    "cartridge": "is no layer of the model",
    "cpt": "is a soft prompt",
    "multitask_prompt_tuning": "is a soft prompt",
    "p_tuning": "is adapter.name: ptuning",
    "poly": "needs the task of every row",
    "prefix_tuning": "is adapter.name: prefix",
    "prompt_tuning": "is adapter.name: prompt",
    "xlora": "mixes adapters that are trained already",
}
"""Kinds of PEFT that are not layers with numbers to train, and what they are instead."""


def kinds() -> dict[str, type[PeftConfig]]:
    """PEFT's configurations by the kind as it is written in a recipe."""
    every = {kind.value.lower(): made for kind, made in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    return {kind: made for kind, made in every.items() if kind not in LEFT_OUT}


class Config(Section):
    """Keys of `adapter` with `name: peft`, and those of PEFT for the kind."""

    model_config = ConfigDict(extra="allow")

    name: Literal["peft"] = "peft"
    """Train what PEFT offers under `kind`, with its own keys beside."""
    kind: str = "hra"
    """PEFT's name of it in lower case, such as boft, fourierft, hra, randlora or vblora."""
    from_: From = None

    @property
    def reads_base(self) -> bool:
        """Whether a quantised base would do is known of no kind."""
        return True

    @model_validator(mode="after")
    def _known(self) -> "Config":
        if self.kind in LEFT_OUT:
            raise ValueError(f"another kind: {self.kind} {LEFT_OUT[self.kind]}")
        if self.kind not in kinds():
            hint = did_you_mean(self.kind, kinds())
            raise ValueError(f"a kind of PEFT, one of {', '.join(sorted(kinds()))}; {hint}")
        made = kinds()[self.kind]
        known = sorted({field.name for field in fields(made) if field.init} - OWN)
        for key in self.model_extra or {}:
            if key not in known:
                hint = did_you_mean(key, known) or f"keys: {', '.join(known)}"
                raise ValueError(f"keys of PEFT's {made.__name__}, not {key!r}; {hint}")
        return self


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Put PEFT's layers of that kind into the model; what they draw is drawn from `seed`.

    Raises:
        RecipeError: PEFT refuses the keys for this base.
    """
    given: dict[str, Any] = dict(config.model_extra or {})
    if "target_modules" in {field.name for field in fields(kinds()[config.kind])}:
        given.setdefault("target_modules", layers.linear_names(model))
    with layers.refusals("adapter"):
        wanted = kinds()[config.kind](**given)
    return layers.attach(model, wanted, seed, config.from_)
