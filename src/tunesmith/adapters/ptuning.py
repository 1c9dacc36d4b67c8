"""P-tuning: prompt tuning whose virtual tokens are made by a small network, trained with them.

    h_i = MLP(e_i)   or   h_i = MLP([LSTM_forward(e)_i; LSTM_backward(e)_i]),   e trained

Liu et al., arXiv:2103.10385, eq. 4; the network is PEFT's, and so is the place of all virtual
tokens before the example. Only what it makes is kept at the end, which `prompt` can go on with.
Its weights are fp32.
"""

from typing import Any, Literal, Self

from peft import PromptEncoderConfig
from pydantic import Field, model_validator
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached
from tunesmith.adapters.parts import virtual
from tunesmith.adapters.parts.virtual import saved, write
from tunesmith.config.section import Section

__all__ = ["Config", "attach", "saved", "write"]

LEARNING_RATE = 3e-3
"""Measured on the starter: the loss of the last 10 of 30 steps of 4 tickets was 0.62 nats at 3e-3
and 0.85 at 1e-3."""
TRAINS_BASE = False
FOLDER = "adapter"

LAYERS = 2
"""Of the LSTM, in the paper's code and in PEFT; the MLP has no other number."""


class Config(Section):
    """Keys of `adapter` with `name: ptuning`."""

    name: Literal["ptuning"] = "ptuning"
    """Train virtual tokens before each example through a network that makes them."""
    virtual_tokens: int = Field(20, ge=1)
    """How many."""
    encoder: Literal["mlp", "lstm"] = "mlp"
    """The network: three linear layers, or a bidirectional LSTM with two behind it."""
    hidden: int | None = Field(None, ge=1)
    """Width of the network; left out, that of the base."""
    layers: int = Field(LAYERS, ge=1)
    """Layers of the LSTM."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of dropping what goes from one layer of the LSTM to the next, while training."""

    @model_validator(mode="before")
    @classmethod
    def _no_earlier_one(cls, data: Any) -> Any:
        if isinstance(data, dict) and "from" in data:
            raise ValueError(
                "ptuning without from: a run saves what its network made, not the network; go on "
                "from that with adapter.name: prompt"
            )
        return data

    @model_validator(mode="after")
    def _keys_of_the_lstm(self) -> Self:
        if self.encoder != "lstm" and (self.layers != LAYERS or self.dropout):
            raise ValueError("layers and dropout are those of encoder: lstm")
        if self.layers == 1 and self.dropout:
            raise ValueError("dropout lies between layers, and there is one")
        return self


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """Put the virtual tokens before everything that `model` reads; drawn from `seed`."""
    peft_config = PromptEncoderConfig(
        num_virtual_tokens=config.virtual_tokens,
        encoder_reparameterization_type=config.encoder.upper(),
        encoder_hidden_size=config.hidden or model.get_input_embeddings().embedding_dim,
        encoder_num_layers=config.layers,
        encoder_dropout=config.dropout,
    )
    return virtual.attach(model, peft_config, seed)
