"""Each row shape is what it says, and the tokens are those of Tunesmith's own renderer."""

from itertools import islice

import pytest

from benchmarks import rows
from benchmarks.cases import MAX_TOKENS
from tunesmith.data.row import Message
from tunesmith.data.template import Renderer
from tunesmith.testing.tiny import byte_tokenizer


def turns(question: str, answer: str, system: str = "") -> tuple[Message, ...]:
    before = (Message("system", system),) if system else ()
    return (*before, Message("user", question), Message("assistant", answer))


CONVERSATIONS = [
    turns("one?", "first answer", "be brief"),
    turns("two?", "second"),
    turns("3?", "x"),
]


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    tokenizer = byte_tokenizer()
    return Renderer(tokenizer, frozenset([tokenizer.eos_token_id]), max_tokens=MAX_TOKENS)


def test_ragged_rows_are_the_rows_in_order_and_start_again(renderer):
    lines = list(islice(rows.ragged(CONVERSATIONS, renderer), 4))
    assert [line["messages"][-1]["content"] for line in lines] == [
        "first answer",
        "second",
        "x",
        "first answer",
    ]


def test_the_answer_and_its_stop_token_are_trained(renderer):
    line = next(rows.ragged([turns("two?", "second")], renderer))
    trained = [i for i, on in zip(line["input_ids"], line["trained"], strict=True) if on]
    assert trained == [*b"second", 257]


def test_a_row_that_is_too_long_is_left_out(renderer):
    lines = rows.ragged([turns("?", "a" * MAX_TOKENS), turns("two?", "second")], renderer)
    assert next(lines)["messages"][-1]["content"] == "second"


def test_long_rows_take_turns_until_the_next_does_not_fit(renderer):
    conversations = [turns("q" * 200, "a" * 200, "be brief")]
    (line,) = islice(rows.long(conversations, renderer), 1)
    one = len(rows.encode(turns("q" * 200, "a" * 200), renderer)["input_ids"])
    assert MAX_TOKENS - one < len(line["input_ids"]) <= MAX_TOKENS
    roles = [message["role"] for message in line["messages"]]
    assert roles == ["user", "assistant"] * (len(roles) // 2)
    assert sum(line["trained"]) == 201 * (len(roles) // 2)


def test_a_short_answer_is_in_its_prompt(renderer):
    text = "alpha beta gamma delta " + "word " * (rows.NOTE_WORDS // 2)
    line = next(rows.short_answers([turns(text, "omega")], renderer))
    prompt, answer = (message["content"] for message in line["messages"])
    assert answer == "alpha beta gamma delta"
    assert answer in prompt
    assert sum(line["trained"]) == len(answer) + 1


def test_a_pair_rejects_the_answer_of_the_next_row(renderer):
    line = next(rows.pairs(CONVERSATIONS, renderer))
    assert line["prompt"][-1]["content"] == "one?"
    assert (line["chosen"][0]["content"], line["rejected"][0]["content"]) == (
        "first answer",
        "second",
    )
    assert line["num_trained"] == [len("first answer") + 1, len("second") + 1]
    assert line["tokens"][0] - line["tokens"][1] == len("first answer") - len("second")


def test_no_conversation_is_an_error(renderer):
    with pytest.raises(ValueError, match="the data holds no conversation"):
        next(rows.ragged([], renderer))
