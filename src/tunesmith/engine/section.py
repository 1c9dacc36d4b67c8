"""The recipe's `train` section."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from tunesmith.config.section import Section


def _number(value: Any) -> Any:
    """Auto is the same as nothing."""
    return None if value == "auto" else value


Rate = Annotated[
    float | None,
    Field(gt=0),
    BeforeValidator(_number),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"const": "auto"},
                {"type": "null"},
            ]
        }
    ),
]
"""A learning rate; None where one is to be found."""


class TrainSection(Section):
    """How long, how fast and with what numbers the loop runs."""

    epochs: float | None = Field(None, gt=0)
    """Passes over the rows; 1 when neither epochs nor steps is given."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps, instead of epochs."""
    learning_rate: Rate = None
    """Peak learning rate. auto, or left out: one for this adapter and this base is taken and
    written down with its source; `tunesmith find-lr` measures one."""
    warmup: float = Field(0.03, ge=0)
    """Below 1: share of the steps; 1 and above: number of steps. The rate rises linearly."""
    schedule: Literal["constant", "linear", "cosine", "wsd", "inverse_sqrt"] = "cosine"
    """Shape of the rate after warmup; wsd holds it and decays over the last fifth, inverse_sqrt
    falls with the root of the step."""
    min_rate: float = Field(0.0, ge=0, le=1)
    """Share of the peak that the rate does not fall below after warmup."""
    batch_rows: int | None = Field(None, ge=1)
    """Most rows in one forward pass; 8 when neither batch_rows nor batch_tokens is given."""
    batch_tokens: int | None = Field(None, ge=1)
    """Most tokens in one forward pass, instead of batch_rows: as many whole rows as fit."""
    accumulate: int = Field(1, ge=1)
    """Batches per optimizer step. How its rows share forward passes is planned and changes no loss,
    which is divided once, by all trained tokens."""
    optimizer: str = "adamw"
    """An optimizer of torch.optim by its name, in any case: adamw, sgd, adafactor, ...; or muon,
    adamw8bit, paged_adamw8bit, schedule_free_adamw, schedule_free_sgd, torchao_adamw8bit,
    torchao_adamw4bit."""
    optimizer_options: dict[str, Any] = {}
    """Further arguments of that optimizer, such as betas or momentum."""
    weight_decay: float = Field(0.0, ge=0)
    """Of matrices, not of norms, biases and other vectors; decoupled where the optimizer decouples
    it."""
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Factor on the learning rate for each block further from the head: 0.9 lets the last of 30
    blocks learn at 0.9 of the rate, the first at 0.04; null gives all the same."""
    unfreeze: int | None = Field(None, ge=1)
    """Steps after which the next lower block is trained too: at first only the last one is, and
    what follows it, embeddings last of all; null trains all from the start."""
    clip: float | None = Field(1.0, gt=0)
    """Largest gradient norm over all trained parameters; null leaves gradients as they are."""
    noise: float | None = Field(None, gt=0)
    """Size of the noise on embeddings while training (NEFTune's alpha, such as 5); null for none.
    """
    kl_to_base: float | None = Field(None, gt=0)
    """Weight of a term in the loss that keeps the model near its base on the trained tokens: their
    mean KL(base || now). Not with adapters that change the base; a step takes more than twice as
    long.
    """
    guard: bool = True
    """Whether steps that are far out of the usual are rejected, and a loss that stays above its
    start ends the run; false rejects only what is not finite."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of a moving average of the trained weights, such as 0.999: it is measured at the end,
    and exported if it is better than the best checkpoint."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Reaches the adapter's start, the order of rows, dropout and generation."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Numbers of the forward and backward pass; auto measures which is faster on this machine."""
    kernels: Literal["fast", "reference"] = "fast"
    """fast: Tunesmith's own compute paths; reference: those of transformers and PEFT."""

    @model_validator(mode="after")
    def _one_length_one_batch(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs or steps, not both")
        if self.batch_rows is not None and self.batch_tokens is not None:
            raise ValueError("batch_rows or batch_tokens, not both")
        return self
