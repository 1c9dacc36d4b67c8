"""The gate: an artefact is what was trained, or the run has not succeeded.

What lies in the folder is held against what is in memory: every tensor by name, shape, type and
bits, the configuration key by key, the tokenizer by what it makes of texts. Nothing is counted or
sampled, so a tensor that is missing, empty, zeroed, swapped, of another run or never trained is
named. That the folder loads elsewhere and answers alike is for `certificate.py`.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tunesmith.adapters.base import Saved
from tunesmith.data.chat_text import TRAINING_DAY, program
from tunesmith.data.sandbox import Program
from tunesmith.errors import CommandError, RunError
from tunesmith.export.artefact import bits

CONVERSATIONS = (
    [{"role": "user", "content": "Wo ist das Buch?\n\nIt's <b>42</b> %  \t日本 🙂"}],
    [
        {"role": "user", "content": " 1 + 1 = "},
        {"role": "assistant", "content": "2\n"},
        {"role": "user", "content": "{'a': [1, 2]}"},
    ],
)
"""Rendered by the tokenizer in memory and by the saved one; spaces, breaks and scripts mixed."""


def require_sound(
    folder: Path, saved: Saved, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str] = ()
) -> None:
    """Refuse an artefact that is not, bit for bit, what was trained.

    Args:
        folder: The artefact.
        saved: What it should hold, from memory.
        tokenizer: The one that was trained with.
        texts: Texts of training, which the saved tokenizer must turn into the same ids.

    Raises:
        RunError: Naming the first tensor, file or key at fault.
    """
    _require_tensors(folder, saved.tensors)
    _require_config(folder / saved.config_file, saved.config)
    _require_tokenizer(folder, tokenizer, texts)


def _require_tensors(folder: Path, expected: dict[str, Tensor]) -> None:
    seen: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in _tensors(path):
            where = f"{folder}: {name}"
            if name not in expected:
                raise RunError(where, got="a tensor of this name", expected="none: not trained")
            if name in seen:
                raise RunError(where, got="a second tensor of this name", expected="one")
            seen.add(name)
            problem = difference(tensor, expected[name])
            if problem:
                raise RunError(where, got=problem, expected="the tensor as it was trained")
    if missing := sorted(expected.keys() - seen):
        more = f", nor {len(missing) - 1} more" if len(missing) > 1 else ""
        raise RunError(f"{folder}: {missing[0]}", got=f"no such tensor{more}", expected="it")


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """One tensor after the other, so that a whole model is never in memory twice."""
    try:
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise RunError(
            str(path), got=f"a file that cannot be read ({error})", expected="safetensors"
        ) from error


def difference(found: Tensor, trained: Tensor) -> str:
    """What sets a tensor on the disk apart from the one in memory; empty when nothing does."""
    if found.shape != trained.shape:
        return f"shape {list(found.shape)}, trained were {list(trained.shape)}"
    if found.dtype != trained.dtype:
        return f"type {found.dtype}, trained was {trained.dtype}"
    if found.is_floating_point() and not found.isfinite().all():
        return "NaN or infinity"
    if torch.equal(bits(found), bits(trained)):
        return ""
    if not found.any():
        return "nothing but zeros"
    share = (found != trained.detach().cpu()).float().mean().item()
    return f"other numbers: {share:.0%} of them differ from those in memory"


def _require_config(path: Path, expected: dict[str, Any]) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(str(path), got=f"no configuration ({error})", expected="it") from error
    for key in sorted(expected.keys() | found.keys()):
        if found.get(key) != expected.get(key):
            raise RunError(
                f"{path}: {key}", got=_short(found.get(key)), expected=_short(expected.get(key))
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _require_tokenizer(
    folder: Path, trained: PreTrainedTokenizerBase, texts: Sequence[str]
) -> None:
    """Refuse a saved tokenizer that makes other text of a conversation, or other ids of a text."""
    where = f"{folder}: tokenizer"
    try:
        found = _load_tokenizer(folder)
    # Whatever transformers raises over a file that is missing or damaged.
    except Exception as error:
        raise RunError(where, got=f"none that loads ({error})", expected="it loads") from error
    if found.chat_template != trained.chat_template:
        got = "another chat template" if found.chat_template else "no chat template"
        raise RunError(where, got=got, expected="the one that was trained with")
    rendered = list(texts)
    if trained.chat_template:
        programs = [program(each, now=TRAINING_DAY) for each in (found, trained)]
        for conversation, opened in product(CONVERSATIONS, (False, True)):
            made, wanted = (_render(each, conversation, opened) for each in programs)
            if made != wanted:
                raise RunError(where, got=f"{made!r} of a conversation", expected=f"{wanted!r}")
            rendered.append(wanted)
    for text in rendered:
        if _ids(found, text) != _ids(trained, text):
            raise RunError(where, got=f"other ids of {text[:60]!r}", expected="those of training")
    if found.special_tokens_map != trained.special_tokens_map:
        raise RunError(
            where, got=str(found.special_tokens_map), expected=str(trained.special_tokens_map)
        )


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """By its own file where there is one, as a base's is loaded."""
    by_file = (folder / "tokenizer.json").is_file()
    kind = PreTrainedTokenizerFast if by_file else AutoTokenizer
    return kind.from_pretrained(folder, local_files_only=True)


def _render(template: Program, messages: list[dict], opened: bool) -> str:
    """The text of a conversation; what the template says where it refuses it."""
    try:
        return template.text(messages, opened)
    except CommandError as error:
        return f"refused: {error.got}"


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
