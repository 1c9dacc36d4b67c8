"""Talks to a base or to a trained model: messages in, text out."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tunesmith.adapters.base import added_tokens
from tunesmith.adapters.parts.reopening import reopen
from tunesmith.api.resolve import device, weights_dtype
from tunesmith.config.yaml_file import read_yaml
from tunesmith.data.chat_text import program
from tunesmith.data.sandbox import Program
from tunesmith.engine.precision import DTYPES
from tunesmith.engine.precision import resolve as resolve_precision
from tunesmith.errors import CommandError
from tunesmith.generate.generate import generate
from tunesmith.generate.options import GREEDY, GenerateOptions, Sampling
from tunesmith.generate.stream import stream
from tunesmith.methods import base as methods
from tunesmith.models import soft_wrapper
from tunesmith.models.load import load
from tunesmith.models.refuse import check_adapter
from tunesmith.models.resolve import resolve
from tunesmith.recipe import from_dict
from tunesmith.runs.folder import RunFolder

Messages = Sequence[dict[str, Any]]
"""Chat messages as OpenAI writes them: {"role": ..., "content": ...}."""


@dataclass(frozen=True)
class Speaker:
    """A model in memory that answers.

    Attributes:
        model: The transformers model, with the adapter inside if there is one.
        tokenizer: Its tokenizer.
        stop_ids: Tokens that end an answer.
        adapter: What can be asked to disable the adapter inside, if there is one.
        system: The system message that all rows of the run had; None for a base.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stop_ids: frozenset[int]
    adapter: nn.Module | None = None
    system: str | None = None

    def opening(self) -> list[dict[str, str]]:
        """What a conversation begins with, so that the model sees what it was trained with."""
        return [{"role": "system", "content": self.system}] if self.system else []

    def answer(self, prompts: Sequence[Messages], max_new_tokens: int) -> list[str]:
        """Greedy answers to several conversations at once."""
        return self.texts([self.ids(messages) for messages in prompts], max_new_tokens)

    def texts(self, prompts: list[list[int]], max_new_tokens: int) -> list[str]:
        """Greedy answers to prompts that are token ids already."""
        options = GenerateOptions(max_new_tokens, self.stop_ids, self.pad)
        return [self.text(tokens) for tokens in generate(self.model, prompts, options)]

    def stream(
        self, messages: Messages, max_new_tokens: int, sampling: Sampling = GREEDY
    ) -> Iterator[str]:
        """The answer in pieces of text, as they come."""
        options = GenerateOptions(max_new_tokens, self.stop_ids, self.pad)
        tokens: list[int] = []
        shown = ""
        for token in stream(self.model, self.ids(messages), options, sampling):
            tokens.append(token)
            text = self.text(tokens)
            # A character of several tokens decodes to U+FFFD until its last one is there.
            if not text.endswith("\ufffd"):
                yield text[len(shown) :]
                shown = text

    def as_base(self) -> AbstractContextManager[Any]:
        """For the time of the block, answer as the base does.

        Raises:
            CommandError: There is no adapter to switch off.
        """
        if self.adapter is None:
            raise CommandError(
                "--compare",
                got="base, with a model that has no adapter to switch off",
                expected="a run that trained an adapter",
                hint="talk to the base itself: tunesmith chat starter",
            )
        return soft_wrapper.disabled(self.adapter)

    def ids(self, messages: Messages) -> list[int]:
        """Token ids of a conversation, ready for the answer to follow."""
        if self.tokenizer.chat_template is None:
            return list(self.tokenizer("\n".join(str(m["content"]) for m in messages))["input_ids"])
        text = self.template.text(messages, opened=True)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def template(self) -> Program:
        """The chat template of the tokenizer."""
        return program(self.tokenizer)

    def text(self, tokens: list[int]) -> str:
        """Tokens as text, without special ones."""
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    @property
    def pad(self) -> int:
        """A token to fill padded batches with; it is masked."""
        pad = self.tokenizer.pad_token_id
        return 0 if pad is None else pad


def open_speaker(name: str) -> Speaker:
    """Load what `name` says: a run folder, `starter`, a model folder, a GGUF file or a hub id.

    Raises:
        CommandError: A run that has exported nothing yet.
        ModelError: No such base.
    """
    folder = RunFolder(Path(name))
    if folder.exists:
        return _of_run(folder)
    dtype = DTYPES[resolve_precision("auto", device())]
    return _of_base(name, None, dtype)


def _of_base(
    name: str, revision: str | None, dtype: torch.dtype, quantized: str = "none"
) -> Speaker:
    base = load(resolve(name, revision), dtype, quantized)
    base.model.to(device())
    return Speaker(base.model, base.tokenizer, base.stop_ids)


def _of_run(folder: RunFolder) -> Speaker:
    recipe = from_dict(read_yaml(folder.recipe), str(folder.recipe))
    if methods.head_of(recipe.method):
        raise CommandError(
            str(folder.path),
            got=f"a run of method {recipe.method.name}, whose model does not write",
            expected="a run whose model writes",
            hint=f"let it read a text: tunesmith classify {folder.path} TEXT",
        )
    system = _system(folder)
    if folder.model.is_dir():
        dtype = DTYPES[recipe.train.precision]
        return replace(_of_base(str(folder.model), None, dtype), system=system)
    if not folder.adapter.is_dir():
        raise CommandError(
            str(folder.path),
            got="a run that has exported nothing",
            expected="a run that succeeded",
            hint=f"finish it with: tunesmith resume {folder.path}",
        )
    check_adapter(folder.adapter)
    model = recipe.model
    base = _of_base(model.base, model.revision, weights_dtype(recipe), model.quantize)
    adapter, tokenizer = reopen(base.model, folder.adapter), base.tokenizer
    soft_wrapper.installed(adapter)
    if added_tokens(recipe.adapter):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder.adapter)
    return Speaker(base.model, tokenizer, base.stop_ids, adapter, system)


def _system(folder: RunFolder) -> str | None:
    if not folder.report_json.is_file():
        return None
    return json.loads(folder.report_json.read_text(encoding="utf-8"))["data"].get("system")
