"""A trained model that reads: scores of texts and conversations, or vectors of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tunesmith.api.resolve import device, weights_dtype
from tunesmith.config.yaml_file import read_yaml
from tunesmith.data.collate import collate
from tunesmith.data.encoded import Encoded
from tunesmith.data.example import Batch, Example
from tunesmith.data.order import plan_batches
from tunesmith.data.row import Conversation, RowProblem, Text
from tunesmith.data.shapes.chat import read_messages
from tunesmith.data.template import Renderer
from tunesmith.data.whole import Whole
from tunesmith.errors import CommandError
from tunesmith.export.reload import Holding, load_artefact
from tunesmith.models.heads import SCORES, gives, pad_of, pooling_of
from tunesmith.models.load import quiet, stop_ids
from tunesmith.models.policy import Policy
from tunesmith.models.soft_wrapper import installed
from tunesmith.recipe import from_dict
from tunesmith.runs.folder import RunFolder

Readable = str | Sequence[dict[str, Any]]
"""A text, or chat messages as OpenAI writes them."""
MAX_TOKENS = 2048
"""Tokens of one forward pass."""


@dataclass(frozen=True)
class Reader:
    """A model in memory that reads.

    Attributes:
        model: transformers' model, the adapter inside.
        policy: Its compute paths.
        whole: Turns what is read into tokens.
        pooling: How its states become one.
    """

    model: PreTrainedModel
    policy: Policy
    whole: Whole
    pooling: str

    @property
    def labels(self) -> list[str]:
        """Names of the scores."""
        named = self.model.config.id2label
        return [named[i] for i in range(len(named))]

    @property
    def problem(self) -> str:
        """Transformers' `problem_type` of the scores."""
        return self.model.config.problem_type or ""

    def scores(self, readables: Sequence[Readable]) -> Tensor:
        """(R, C) float32, in the order of what is read.

        Raises:
            CommandError: The model gives no scores, or something cannot be read.
        """
        if gives(self.model) != SCORES:
            raise CommandError("scores", got="a model of vectors", expected="one that gives scores")
        return self._each(readables, self.policy.scores)

    def vectors(self, readables: Sequence[Readable]) -> Tensor:
        """(R, D) float32 of length 1, in the order of what is read.

        Raises:
            CommandError: Something cannot be read.
        """
        pooled = partial(self.policy.sequence_states, pooling=self.pooling)
        found = self._each(readables, pooled)
        return normalize(found.float(), dim=1)

    @torch.inference_mode()
    def _each(self, readables: Sequence[Readable], answer: Any) -> Tensor:
        examples = [self._example(each, number) for number, each in enumerate(readables, 1)]
        lengths = np.array([len(example) for example in examples])
        bounds = plan_batches(lengths, np.arange(len(lengths)), None, MAX_TOKENS)
        found = []
        for start, stop in pairwise(bounds):
            batch: Batch = collate(examples[start:stop], True, self.whole.pad_id)
            found.append(answer(batch.to(self.policy.device)).cpu())
        return torch.cat(found)

    def _example(self, readable: Readable, number: int) -> Example:
        try:
            encoded: Encoded = self.whole(_content(readable))
        except RowProblem as problem:
            where = f"text {number}"
            raise CommandError(where, got=problem.got, expected=problem.expected) from problem
        return Example(encoded.input_ids, encoded.trained, "", number)


def open_reader(name: str | Path) -> Reader:
    """Load a run, or a folder that one exported.

    Raises:
        CommandError: There is no such folder, or its model writes.
    """
    folder, held, max_tokens = _found(Path(name))
    with quiet():
        loaded = load_artefact(folder, held)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = installed(loaded)
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    if model.get_output_embeddings() is not None:
        raise CommandError(
            str(name),
            got="a model that writes",
            expected="one trained with method classify, reward or embed",
            hint=f"talk to it: tunesmith chat {name}",
        )
    model.to(device())
    stops = stop_ids(model, tokenizer) or frozenset({pad_of(tokenizer)})
    renderer = Renderer(tokenizer, stops, max_tokens=max_tokens, overlong="truncate")
    policy = Policy(model, "fast", held.dtype)
    return Reader(model, policy, Whole(renderer, pad_of(tokenizer)), pooling_of(folder))


def _found(path: Path) -> tuple[Path, Holding, int]:
    """The artefact, how its base is held, and the longest text."""
    run = RunFolder(path)
    if not run.exists:
        if not any((path / n).is_file() for n in ("config.json", "adapter_config.json")):
            raise CommandError(str(path), got="no run and no model folder", expected="one of them")
        return path, Holding(torch.float32), MAX_TOKENS
    folder = run.adapter if run.adapter.is_dir() else run.model
    if not folder.is_dir():
        raise CommandError(
            str(path),
            got="a run that has exported nothing",
            expected="a run that succeeded",
            hint=f"finish it with: tunesmith resume {path}",
        )
    recipe = from_dict(read_yaml(run.recipe), str(run.recipe))
    held = Holding(weights_dtype(recipe), recipe.model.quantize)
    return folder, held, recipe.data.max_tokens


def _content(readable: Readable) -> Conversation | Text:
    if not isinstance(readable, str):
        return Conversation(read_messages(list(readable), "messages"))
    if not readable.strip():
        raise RowProblem("an empty text", "text")
    return Text(readable)
