"""The trained model as it lies in a run folder, and what it answers: the measure of every export.

W' = W + s B A, computed in fp32. Over a quantised base, W is the weight that the adapter was
trained beside: the quantised one, made wide again. The adapter has learnt to make up for its
errors, and would add the opposite of errors that are not there to the weights as published.
"""

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from tunesmith.errors import CommandError
from tunesmith.export.asked import Asked, Reply, of_model, questions
from tunesmith.export.reload import Holding, load_artefact, tokenizer_of
from tunesmith.models.heads import LOGITS, pooling_of
from tunesmith.models.quantize import dequantize
from tunesmith.models.soft_wrapper import installed

NUM_TOKENS = 32
"""Greedy tokens compared after each prompt."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What trained and exported model are shown.

    Attributes:
        prompts: Token ids; at least one.
        rows: Held-out rows, ids and which of them are targets.
        texts: Texts to be turned into ids.
    """

    prompts: list[list[int]]
    rows: list[tuple[list[int], list[bool]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


@dataclass
class Trained:
    """The model that was trained, in memory and in fp32, with its replies.

    Attributes:
        model: Over a quantised base that has been made wide again.
        asked: The questions, with the model's own answers in them.
        reply: Of `model`.
        quantized_reply: Of the model over the base as it was quantised in training; None where it
            was not.
    """

    model: nn.Module
    asked: Asked
    reply: Reply
    quantized_reply: Reply | None

    def merged(self) -> PreTrainedModel:
        """The model as one set of weights; `model` is changed by it and must not be asked again."""
        if isinstance(self.model, PeftModel):
            untie_adapted(self.model)
            try:
                with warnings.catch_warnings():
                    # PEFT says that it noticed what `untie_adapted` did.
                    warnings.simplefilter("ignore", UserWarning)
                    self.model = self.model.merge_and_unload()
            except (NotImplementedError, AttributeError, TypeError) as error:
                raise CommandError(
                    "--to",
                    got=f"an adapter that PEFT cannot merge ({error})",
                    expected="--to adapter",
                ) from error
        return self.model


def untie_adapted(model: PeftModel) -> None:
    """Give a head a matrix of its own where only it, or only the embedding, will be changed.

    PEFT adds an update to the weight in place, and a shared matrix would get it at both ends.
    """
    inner = model.get_base_model()
    ends = [inner.get_input_embeddings(), inner.get_output_embeddings()]
    adapted = [isinstance(end, LoraLayer) for end in ends]
    weights = [end.get_base_layer() if isinstance(end, BaseTunerLayer) else end for end in ends]
    if any(adapted) and weights[0].weight is weights[1].weight:
        weights[1].weight = nn.Parameter(weights[1].weight.detach().clone(), requires_grad=False)
        inner.config.tie_word_embeddings = False


def load_trained(folder: Path, quantized: Holding | None) -> nn.Module:
    """The artefact of a run, over its base as it was held in training.

    Args:
        folder: A PEFT adapter folder that names its base, or a whole model's folder.
        quantized: How the base was quantised in training; None if it was not.
    """
    return installed(load_artefact(folder, quantized or Holding(torch.float32)))


def ask_trained(model: nn.Module, folder: Path, shown: Shown, quantized: Holding | None) -> Trained:
    """Ask the model of `load_trained`, called with the same arguments, what every export is asked.

    A quantised base is asked first as it is, and then, made wide again, once more.
    """
    tokenize = tokenizer_of(folder)
    asked = questions(model, shown.prompts, NUM_TOKENS, pooling_of(folder))
    rows = shown.rows if asked.gives == LOGITS else []
    asked = replace(asked, rows=rows, texts=shown.texts)
    as_quantized = None
    if quantized:
        as_quantized = of_model(model, tokenize, asked)
        dequantize(model, torch.float32)
        model.float()
    return Trained(model, asked, of_model(model, tokenize, asked), as_quantized)
