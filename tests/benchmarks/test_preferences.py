"""Preference rows of both data sets become a prompt and two answers, by hand."""

import gzip
import json

import pytest

from benchmarks.preferences import MAX_ANSWER, MAX_PROMPT, drawn, tokenised
from tunesmith.testing.tiny import byte_tokenizer

PROMPT = (
    "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\nHello?<|im_end|>\n"
    "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
)


def _hh(folder):
    before = "\n\nHuman: Hi.\n\nAssistant: Hello?\n\nHuman: Why?\n\nAssistant:"
    row = {"chosen": f"{before} Because.", "rejected": f"{before} No."}
    with gzip.open(folder / "test.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _llamafactory(folder):
    turns = [("human", "Hi."), ("gpt", "Hello?"), ("human", "Why?")]
    row = {
        "conversations": [{"from": who, "value": text} for who, text in turns],
        "chosen": {"from": "gpt", "value": "Because."},
        "rejected": {"from": "gpt", "value": "No."},
    }
    (folder / "dpo_en_demo.json").write_text(json.dumps([row]))


@pytest.mark.parametrize("write", [_hh, _llamafactory])
def test_a_row_is_a_prompt_and_two_answers(write, tmp_path):
    write(tmp_path)
    tokenizer = byte_tokenizer()
    (pair,) = tokenised(tmp_path, tokenizer)
    texts = [tokenizer.decode(ids) for ids in pair]
    assert texts == [PROMPT, "Because.<|im_end|>", "No.<|im_end|>"]


def test_drawn_pairs_are_the_same_each_time_and_not_too_long():
    pairs = [pair for pair, _ in zip(drawn(), range(50), strict=False)]
    assert next(drawn()) == pairs[0] != pairs[1]
    assert max(len(prompt) for prompt, _, _ in pairs) <= MAX_PROMPT
    assert max(len(answer) for _, *answers in pairs for answer in answers) <= MAX_ANSWER
