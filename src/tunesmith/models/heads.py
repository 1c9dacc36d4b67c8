"""Other heads than the language model's: scores of a sequence, or its states as they are.

The decoder stays the one that was loaded, and stays under its language-model head too; so what was
forgotten can be measured as for any other run. Models are transformers' own classes, and what is
saved loads there: `AutoModelForSequenceClassification` reads scores at the last token that is not
padding, sentence-transformers pools states as its `modules.json` says.

Legend: R sequences, D width of the model, C scores.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunesmith.errors import ModelError
from tunesmith.models import soft

LOGITS, SCORES, STATES = "logits", "scores", "states"
LAST = "last"
SCORE = "score"
"""Name of the head in transformers' models that classify with a decoder."""

POOLING = {"last": "pooling_mode_lasttoken", "mean": "pooling_mode_mean_tokens"}
"""By its name in a recipe, how sentence-transformers calls it."""

MODULES = {"1_Pooling": "Pooling", "2_Normalize": "Normalize"}
"""Folders of sentence-transformers behind the model, with what each does."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a method puts in the place of the language-model head.

    Attributes:
        gives: `scores` (R, C) of a linear layer that is trained; `states` (R, D) of the decoder.
        labels: Names of the scores, one each; empty for states.
        problem: transformers' `problem_type` of the scores.
        pooling: How the states of a sequence become one: `last` or `mean`.
    """

    gives: Literal["scores", "states"]
    labels: tuple[str, ...] = ()
    problem: str = "single_label_classification"
    pooling: Literal["last", "mean"] = "last"


class ScoreHead(nn.Module):
    """x W^T in fp32 whatever the type of x: the last few bits of a score decide between classes.

    Not an `nn.Linear`, so that adapters and quantisation, which look for those, leave it alone.

    Args:
        weight_CD: (C, D); held in fp32.
    """

    def __init__(self, weight_CD: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight_CD.detach().float(), requires_grad=False)

    def forward(self, states: Tensor) -> Tensor:
        """(..., D) states to (..., C) scores, in the type of the weight."""
        with torch.autocast(states.device.type, enabled=False):
            return F.linear(states.to(self.weight.dtype), self.weight)


def put(
    language: PreTrainedModel, head: Head, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    """The decoder of a language model under another head; both share its weights and its config.

    Args:
        language: In memory, of any type and device.
        head: What to put.
        tokenizer: Its padding token is where transformers takes a sequence to end.
        seed: Scores start as N(0, initializer_range), a function of it.

    Raises:
        ModelError: transformers has no such model for this architecture, or one whose head is more
            than a product.
    """
    config = language.config
    config.pad_token_id = pad_of(tokenizer)
    if head.gives == STATES:
        model = language.base_model
    else:
        config.id2label = dict(enumerate(head.labels))
        config.label2id = {label: i for i, label in enumerate(head.labels)}
        config.problem_type = head.problem
        model = _classifier(language)
        shape, std = (len(head.labels), config.hidden_size), config.initializer_range
        drawn = torch.empty(shape).normal_(0, std, generator=torch.Generator().manual_seed(seed))
        model.score = ScoreHead(drawn).to(language.device)
    model.config = config
    config.architectures = [type(model).__name__]
    return model.eval()


def _classifier(language: PreTrainedModel) -> PreTrainedModel:
    """Transformers' classifier around the decoder, its head not there yet."""
    name = type(language.config).__name__
    expected = "an architecture that transformers classifies sequences with by one linear layer"
    if type(language.config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelError("model.base", got=name, expected=expected)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(language.config)
    prefix = model.base_model_prefix
    score = getattr(model, SCORE, None)
    others = [n for n, _ in model.named_parameters() if not n.startswith((f"{prefix}.", "score."))]
    if prefix != language.base_model_prefix or others or type(score) is not nn.Linear:
        raise ModelError("model.base", got=name, expected=expected)
    setattr(model, prefix, language.base_model)
    return model


def widen(model: PreTrainedModel) -> PreTrainedModel:
    """Let a classifier that transformers loaded give its scores in fp32, as it does in training."""
    score = getattr(model, SCORE, None)
    if isinstance(score, nn.Linear):
        model.score = ScoreHead(score.weight)
    return model


def pad_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that transformers takes for padding: a sequence never ends with it."""
    found = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if found is None else found)


def gives(model: nn.Module) -> str:
    """What a model of transformers or PEFT answers with: `scores`, `states` or `logits`."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if hasattr(base, SCORE):
        return SCORES
    return STATES if base.get_output_embeddings() is None else LOGITS


def task_of(model: PreTrainedModel) -> str:
    """PEFT's name of what a model is for; it saves the head of a classifier with the adapter."""
    tasks = {SCORES: "SEQ_CLS", STATES: "FEATURE_EXTRACTION", LOGITS: "CAUSAL_LM"}
    return tasks[gives(model)]


def write_beside(head: Head, model: PreTrainedModel, folder: Path) -> None:
    """Write what a program must know besides the weights: labels, padding, pooling.

    An adapter of a classifier gets the configuration of the whole model, since that of its base has
    no labels; states get the files of sentence-transformers. That loads no virtual tokens:
    beside them there is only how states are pooled, for `pooling_of`.
    """
    if head.gives == SCORES:
        if not (folder / "config.json").is_file():
            model.config.save_pretrained(folder)
        return
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate({"": "Transformer", **MODULES}.items())
    ]
    pooling = {"word_embedding_dimension": model.config.hidden_size}
    pooling |= {theirs: ours == head.pooling for ours, theirs in POOLING.items()}
    _write(folder / "1_Pooling" / "config.json", pooling)
    if soft.of(model) is None:
        _write(folder / "modules.json", modules)
        _write(folder / "2_Normalize" / "config.json", {})


def copy_beside(source: Path, target: Path) -> None:
    """Copy what `write_beside` wrote for states, if it did, to weights of the same model."""
    if (source / "modules.json").is_file():
        shutil.copyfile(source / "modules.json", target / "modules.json")
        for name in MODULES:
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)


def pooling_of(folder: Path) -> str:
    """How a folder of `write_beside` pools states: `last` or `mean`; `last` where none says."""
    path = folder / "1_Pooling" / "config.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return next((ours for ours, theirs in POOLING.items() if told.get(theirs)), LAST)


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
