"""A tokenizer as GGUF keeps it: tokens, merges, special ids, and a name for how text is cut.

Only byte-level BPE is written. GGUF holds no pattern for cutting text into words, only a name that
its readers know; a tokenizer whose pattern has no such name here is refused.
"""

import json
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from tunesmith.data.chat_text import program
from tunesmith.data.tokenizer_facts import added_bos, tokenizer_state
from tunesmith.export.gguf_names import refused

NAMED_PATTERNS = ("llama-bpe", "qwen2", "tekken", "gpt-4o")
"""Names of ways to cut text that GGUF's readers know; transformers has the pattern of each."""


class TokenType(IntEnum):
    """What GGUF tells about a token."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All that GGUF keeps of a tokenizer.

    Attributes:
        tokens: One for each row of the embedding.
        types: Of each.
        merges: Of BPE, best first, as "left right".
        pre: Name of how text is cut before merging.
        special: Ids by GGUF's name for their part: bos, eos, eot, unknown, padding.
        adds_bos: Whether a text without a template begins with BOS.
        chat_template: As in training; None for a base without one.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str]
    pre: str
    special: dict[str, int]
    adds_bos: bool
    chat_template: str | None


def vocabulary(
    tokenizer: PreTrainedTokenizerBase, stop_ids: frozenset[int], num_rows: int
) -> Vocabulary:
    """What to write of a tokenizer.

    Args:
        tokenizer: With the chat template of training.
        stop_ids: Tokens that end an answer.
        num_rows: Of the embedding; rows without a token become unused tokens.

    Raises:
        ModelError: It is of a kind that GGUF cannot hold, or that is not written here.
    """
    state = json.loads(tokenizer_state(tokenizer)) if tokenizer.is_fast else {}
    _require_byte_bpe(state)
    by_id = {token_id: token for token, token_id in tokenizer.get_vocab().items()}
    tokens = [by_id.get(i, f"[PAD{i}]") for i in range(num_rows)]
    types = [TokenType.NORMAL if i in by_id else TokenType.UNUSED for i in range(num_rows)]
    for added in state["added_tokens"]:
        _require_plain(added)
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    return Vocabulary(
        tokens,
        [int(kind) for kind in types],
        [
            merge if isinstance(merge, str) else " ".join(merge)
            for merge in state["model"]["merges"]
        ],
        _name_of_cutting(state),
        _special(tokenizer, stop_ids),
        bool(added_bos(tokenizer)) and _template_begins_with_bos(tokenizer),
        tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None,
    )


def _require_byte_bpe(state: dict[str, Any]) -> None:
    model, decoder = state.get("model", {}), state.get("decoder") or {}
    plain = model.get("type") == "BPE" and decoder.get("type") == "ByteLevel"
    if not plain or model.get("byte_fallback") or not model.get("merges"):
        kind = "SentencePiece" if model.get("byte_fallback") else model.get("type", "unknown")
        raise refused(f"a tokenizer of kind {kind}", "byte-level BPE with merges")
    normalizer = state.get("normalizer")
    if normalizer and normalizer.get("type") != "NFC":
        raise refused(f"a normalizer {normalizer.get('type')!r}", "none, or NFC")


def _require_plain(added: dict[str, Any]) -> None:
    for key in ("lstrip", "rstrip", "single_word"):
        if added[key]:
            raise refused(f"the token {added['content']!r} with {key}", "tokens without it")


def _name_of_cutting(state: dict[str, Any]) -> str:
    """The name that readers of GGUF know for the tokenizer's way of cutting text into words."""
    before = state.get("pre_tokenizer") or {}
    steps = before["pretokenizers"] if before.get("type") == "Sequence" else [before]
    *first, last = steps
    if last.get("type") == "ByteLevel" and not last.get("add_prefix_space"):
        digits = [{"type": "Digits", "individual_digits": True}]
        if last.get("use_regex") and first in ([], digits):
            return "smollm" if first else "gpt-2"
        if not last.get("use_regex") and len(first) == 1:
            for name in NAMED_PATTERNS:
                if _splits_by(first[0], GGUF_PRE_TOKENIZER_SPLITS[name]):
                    return name
    raise refused(
        f"text cut by {json.dumps(before, ensure_ascii=False)[:200]}",
        "one of the ways that GGUF has a name for (gpt-2, smollm, "
        + ", ".join(NAMED_PATTERNS)
        + ")",
    )


def _splits_by(step: dict[str, Any], pattern: str) -> bool:
    return (
        step.get("type") == "Split"
        and step.get("pattern") == {"Regex": pattern}
        and step.get("behavior") == "Isolated"
        and not step.get("invert")
    )


def _special(tokenizer: PreTrainedTokenizerBase, stop_ids: frozenset[int]) -> dict[str, int]:
    named = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "unknown": tokenizer.unk_token_id,
        "padding": tokenizer.pad_token_id,
    }
    others = sorted(stop_ids - {tokenizer.eos_token_id})
    if others:
        named["eos" if tokenizer.eos_token_id is None else "eot"] = others[0]
    return {part: int(token) for part, token in named.items() if token is not None}


def _template_begins_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether BOS belongs before what is trained; so it does without a template."""
    if not tokenizer.chat_template:
        return True
    text = program(tokenizer).text([{"role": "user", "content": "a"}], opened=False)
    return text.startswith(str(tokenizer.bos_token))
