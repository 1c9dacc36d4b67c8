"""Rows of two answers, in every form they are handed around in, and rows of an answer judged."""

import numpy as np
import pytest

from tunesmith.data import shapes
from tunesmith.data.contract import PREFIX, STOP, check
from tunesmith.data.preferences import PairEncoder
from tunesmith.data.row import Judged, Preference, RowProblem
from tunesmith.data.section import Source
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.data.template import Renderer
from tunesmith.errors import DataError, RecipeError
from tunesmith.testing.tiny import CHATML, IM_END, byte_tokenizer

U, A, B = (
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "a"},
    {"role": "assistant", "content": "b"},
)
OLD = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "o"}]
QUESTION = {"from": "human", "value": "q"}


def said(chosen: object, rejected: object, **prompt: object) -> dict:
    return {**prompt, "chosen": chosen, "rejected": rejected}


def read(row: dict) -> Preference:
    assert shapes.detect(row, {"preference", "judged"}) == "preference"
    return shapes.load("preference").read(row)


def texts(conversation) -> list[str]:
    return [f"{message.role[0]}:{message.content}" for message in conversation.messages]


FORMS = {
    "texts": said("a", "b", prompt="q"),
    "a question": said("a", "b", question="q"),
    "a prompt of messages": said([A], [B], prompt=[U]),
    "messages alone": said(A, B, prompt=[U]),
    "implicit": said([U, A], [U, B]),
    "UltraFeedback": said([U, A], [U, B], prompt="q"),
    "ShareGPT": said(
        {"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}, conversations=[QUESTION]
    ),
    "ShareGPT with texts": said("a", "b", conversations=[QUESTION]),
    "OpenAI messages": said(A, B, messages=[U]),
    "Alpaca": said("a", "b", instruction="q", input="", output="a"),
    "HH": said("\n\nHuman: q\n\nAssistant: a", "\n\nHuman: q\n\nAssistant: b"),
    "HH with a prompt": said("a", "b", prompt="\n\nHuman: q\n\nAssistant:"),
    "OpenAI": {
        "input": {"messages": [U]},
        "preferred_output": [A],
        "non_preferred_output": [B],
    },
    "LLaMA-Factory, newer": {
        "chosen_messages": [
            {"role": "user", "content": [{"type": "text", "value": "q"}]},
            {"role": "assistant", "content": [{"type": "text", "value": "a"}]},
        ],
        "rejected_messages": [U, B],
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(form: str) -> None:
    found = read(FORMS[form])
    assert texts(found.chosen) == ["u:q", "a:a"]
    assert texts(found.rejected) == ["u:q", "a:b"]
    assert texts(found.prompt) == ["u:q"]
    assert found.margin is None


@pytest.mark.parametrize(
    ("form", "kind"), [("texts", "completion"), ("Alpaca", "completion"), ("implicit", "chat")]
)
def test_texts_serve_a_base_without_a_template(form: str, kind: str) -> None:
    assert read(FORMS[form]).chosen.kind == kind


def test_earlier_answers_and_a_system_message_belong_to_the_prompt() -> None:
    found = read(said("a", "b", system="s", conversations=[*OLD, U]))
    assert texts(found.chosen) == ["s:s", "u:p", "a:o", "u:q", "a:a"]
    assert [m.weight for m in found.rejected.messages] == [None, None, 0.0, None, None]
    assert texts(found.prompt) == ["s:s", "u:p", "a:o", "u:q"]


def test_answers_that_part_early_are_answers_from_there() -> None:
    found = read(said([U, A, U, A], [U, B, U, A]))
    assert [m.weight for m in found.chosen.messages] == [None] * 4
    assert texts(found.prompt) == ["u:q"]


@pytest.mark.parametrize(
    ("more", "margin"),
    [
        ({"margin": 2}, 2.0),
        ({"margin": 0.5, "chosen_score": 9, "rejected_score": 1}, 0.5),
        ({"score_chosen": 8.5, "score_rejected": 8}, 0.5),
        ({"chosen_rating": 4, "rejected_rating": 4}, 0.0),
        ({"chosen-rating": 4, "rejected-rating": None}, None),
    ],
)
def test_margins(more: dict, margin: float | None) -> None:
    assert read(said("a", "b", prompt="q", **more)).margin == margin


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (said("a", "a", prompt="q"), "chosen and rejected are the same"),
        (said(" ", "b", prompt="q"), r"an empty answer \(chosen\)"),
        (said("a", None, prompt="q"), "rejected: null"),
        (said([], [B], prompt="q"), "chosen: no messages"),
        (said("a", "b"), "chosen without a prompt"),
        (said([U, A], [{**U, "content": "x"}, B]), "different prompts .message 1: 'q' and 'x'"),
        (said([U, A, U, A], [U, A, {**U, "content": "x"}, B]), "different prompts"),
        (said([U, A], [U, A, U, B]), "one answer is the beginning of the other"),
        (said([U, A], [U, B], prompt="other"), "a prompt that is not the row's"),
        (said("a", "b", messages=[U, A]), "role 'assistant' behind 'assistant'"),
        (said([U], [U, B]), "a last message from 'user'"),
        (said("a", "b", prompt="q", margin=-1), "margin: -1; expected at least 0"),
        (said("a", "b", prompt="q", margin="2"), "margin: '2'; expected a number"),
        (said("a", "b", prompt="q", margin=10**400), "expected a number"),
        (
            said("a", "b", prompt="q", chosen_score=1, rejected_score=3),
            "chosen_score less rejected_score: -2",
        ),
        (said("\n\nHuman: q\n\nAssistant: a", "\n\nHuman: q\n\nAssistant:"), "a last message from"),
        (said("\n\nHuman:\n\nAssistant: a", "\n\nHuman: q\n\nAssistant: b"), "nothing said"),
    ],
)
def test_pairs_that_cannot_be_compared(row: dict, message: str) -> None:
    with pytest.raises(RowProblem, match=message):
        read(row)


def test_a_transcript_is_one_only_where_turns_follow() -> None:
    found = read(said("Human: no.", "Assistant: b", prompt="q"))
    assert texts(found.chosen) == ["u:q", "a:Human: no."]


@pytest.mark.parametrize(
    ("row", "good"),
    [
        ({"prompt": "q", "completion": "a", "label": True}, True),
        ({"prompt": "q", "completion": "a", "label": 0}, False),
        ({"messages": [U, A], "label": False}, False),
        ({"messages": [U, A], "kto_tag": "true"}, True),
        ({"instruction": "q", "output": "a", "thumbs": "down"}, False),
        ({"conversations": [QUESTION, {"from": "gpt", "value": "a"}], "thumbs": "Up"}, True),
    ],
)
def test_verdicts(row: dict, good: bool) -> None:
    assert shapes.detect(row, {"preference", "judged"}) == "judged"
    found = shapes.load("judged").read(row)
    assert isinstance(found, Judged)
    assert (texts(found.conversation), found.good) == (["u:q", "a:a"], good)


def test_of_a_judged_conversation_the_last_answer_is_judged() -> None:
    found = shapes.load("judged").read({"messages": [*OLD, U, A], "label": True})
    assert [m.weight for m in found.conversation.messages] == [None, 0.0, None, None]


@pytest.mark.parametrize("label", [None, "perhaps", 2, 0.5, [True]])
def test_a_verdict_that_is_none(label: object) -> None:
    with pytest.raises(RowProblem, match="label: .*expected true or false"):
        shapes.load("judged").read({"messages": [U, A], "label": label})


ROWS = [
    said("a long answer", "b", prompt="q", margin=1.5),
    said("c", "another", prompt="who?", margin=0),
]


@pytest.fixture
def pairs(write_rows, tmp_path):
    def make(rows: list[dict] = ROWS, margins: bool = False, **renderer: object):
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = renderer.pop("template", CHATML)
        made = Renderer(tokenizer, frozenset({IM_END}), **({"max_tokens": 500} | renderer))
        options = PrepareOptions(made.max_tokens, made.overlong, "error", made.train_on)
        source = Source(path=str(write_rows(rows)))
        found = prepare([source], PairEncoder(made, margins), options, tmp_path / "cache")
        return found, made

    return make


def test_both_sides_keep_the_token_contract(pairs) -> None:
    train, renderer = pairs(margins=True)
    example = train[0]
    chosen, rejected = example.sequences()
    prompt = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert renderer.tokenizer.decode(chosen.input_ids[chosen.trained]) == "a long answer<|im_end|>"
    assert renderer.tokenizer.decode(rejected.input_ids) == f"{prompt}b<|im_end|>\n"
    assert example.numbers["margin"].tolist() == [1.5]
    checks = {one.name: one for one in check(train, None, renderer)}
    assert checks[STOP].ok
    assert checks[PREFIX].ok
    assert checks[PREFIX].says.startswith("100.0% of 2 examples")


def test_a_sequence_that_lost_its_prompt_breaks_the_contract(pairs) -> None:
    train, renderer = pairs()
    other = byte_tokenizer()
    other.chat_template = CHATML.replace("assistant", "model")
    broken = Renderer(other, renderer.stop_ids, max_tokens=500)
    found = next(one for one in check(train, None, broken) if one.name == PREFIX)
    assert not found.ok
    assert found.figure == 0.0


def test_a_base_without_a_template_reads_texts(pairs) -> None:
    train, renderer = pairs(template=None)
    chosen, rejected = train[1].sequences()
    assert renderer.tokenizer.decode(rejected.input_ids) == "who?another<|im_end|>"
    assert renderer.tokenizer.decode(chosen.input_ids[chosen.trained]) == "c<|im_end|>"


def test_the_limit_is_of_each_sequence_and_a_cut_keeps_the_prompt(pairs) -> None:
    whole, _ = pairs()
    longest = max(whole[0].parts)
    assert len(pairs(max_tokens=longest)[0]) == 2
    with pytest.raises(DataError, match=f"1 row with more than {longest - 1} tokens"):
        pairs(max_tokens=longest - 1)
    cut, _ = pairs(max_tokens=longest - 2, overlong="truncate")
    assert cut.counts.truncated == 1
    assert np.array_equal(cut[0].sequences()[0].input_ids, whole[0].input_ids[: longest - 2])
    assert np.array_equal(cut[0].sequences()[1].input_ids, whole[0].sequences()[1].input_ids)


def test_answers_that_a_cut_makes_equal_are_refused(pairs) -> None:
    rows = [said("the same and more", "the same or less", prompt="q")]
    with pytest.raises(DataError, match=r"are the same tokens within the first 28"):
        pairs(rows, max_tokens=28, overlong="truncate")


def test_a_missing_margin_is_a_problem_only_where_it_is_wanted(pairs) -> None:
    rows = [said("a", "b", prompt="q")]
    assert len(pairs(rows)[0]) == 1
    with pytest.raises(DataError, match=r"rows.jsonl:1: got no margin"):
        pairs(rows, margins=True)


def test_the_prompt_is_no_answer(pairs) -> None:
    with pytest.raises(RecipeError, match=r"data\.train_on: got all, with a method"):
        pairs(train_on="all")
