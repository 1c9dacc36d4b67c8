"""What a tokenizer does by itself: its BOS, its end, its stop tokens, its whole state."""

import json

from transformers import PreTrainedTokenizerBase

from tunesmith.errors import ModelError


def added_bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The BOS that the tokenizer puts before a text, as a list of one or no id."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else []


def end_token(tokenizer: PreTrainedTokenizerBase, stop_ids: frozenset[int]) -> int:
    """The token that ends a text: the tokenizer's eos where it stops, else the lowest stop id.

    Raises:
        ModelError: There is neither.
    """
    eos = tokenizer.eos_token_id
    if eos is not None and (eos in stop_ids or not stop_ids):
        return eos
    if not stop_ids:
        raise ModelError(
            "tokenizer", got="no eos token and no stop ids", expected="a token that ends an answer"
        )
    return min(stop_ids)


def stop_texts(tokenizer: PreTrainedTokenizerBase, stop_ids: frozenset[int]) -> tuple[str, ...]:
    """Texts of the stop tokens that the tokenizer finds inside any text (its added tokens)."""
    added = tokenizer.added_tokens_decoder
    return tuple(str(added[stop]) for stop in sorted(stop_ids) if stop in added)


def tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> str:
    """All that decides the ids of a text, as one string."""
    if not tokenizer.is_fast:
        return json.dumps([type(tokenizer).__name__, tokenizer.get_vocab()], sort_keys=True)
    # Truncation and padding stay as the last caller set them; each call sets them anew.
    tokenizer("a", truncation=False, padding=False)
    return tokenizer.backend_tokenizer.to_str()
