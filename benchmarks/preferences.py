"""Prompts with two answers each, as tokens: read from a shared data set, or drawn."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

MAX_PROMPT, MAX_ANSWER = 512, 256
"""Tokens that are kept: the end of a longer prompt, the beginning of a longer answer."""

Pair = tuple[list[int], list[int], list[int]]
"""Token ids of a prompt, the chosen and the rejected answer."""


def tokenised(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Iterator[Pair]:
    """The pairs of a shared data set, as the base's chat template writes them.

    Args:
        folder: `hh_rlhf` or `llamafactory_demo`.
        tokenizer: Of the base.
    """

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    for turns, chosen, rejected in _read(folder):
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        answers = [ids(text + tokenizer.eos_token)[:MAX_ANSWER] for text in (chosen, rejected)]
        yield ids(prompt)[-MAX_PROMPT:], *answers


def drawn() -> Iterator[Pair]:
    """Random tokens, lengths up to those that are kept; the same ones each time, without end."""
    rng = np.random.default_rng(0)
    while True:
        sizes = (rng.integers(40, MAX_PROMPT), *rng.integers(20, MAX_ANSWER, 2))
        yield tuple(rng.integers(10, 49_000, size).tolist() for size in sizes)


def _read(folder: Path) -> Iterator[tuple[list[dict[str, str]], str, str]]:
    """Turns of the prompt, the chosen and the rejected answer of each row."""
    if (packed := folder / "test.jsonl.gz").exists():
        with gzip.open(packed, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield _hh(json.loads(line))
        return
    roles = {"human": "user", "gpt": "assistant", "system": "system"}
    for row in json.loads((folder / "dpo_en_demo.json").read_text(encoding="utf-8")):
        turns = [{"role": roles[t["from"]], "content": t["value"]} for t in row["conversations"]]
        yield turns, row["chosen"]["value"], row["rejected"]["value"]


def _hh(row: dict[str, str]) -> tuple[list[dict[str, str]], str, str]:
    """HH writes both conversations out; they differ in the last answer."""
    opening = "\n\nAssistant:"
    prompt, _, chosen = row["chosen"].rpartition(opening)
    turns = []
    for part in prompt.split("\n\nHuman:")[1:]:
        asked, _, answered = part.partition(opening)
        turns.append({"role": "user", "content": asked.strip()})
        if answered:
            turns.append({"role": "assistant", "content": answered.strip()})
    return turns, chosen.strip(), row["rejected"].rpartition(opening)[2].strip()
