"""Answers with a verdict, each beside an answer to something else."""

import pytest

from tunesmith.data.contract import PREFIX, STOP, check
from tunesmith.data.section import Source
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.data.template import Renderer
from tunesmith.data.verdicts import JudgedEncoder
from tunesmith.errors import DataError
from tunesmith.testing.tiny import CHATML, IM_END, byte_tokenizer

ROWS = [
    {"prompt": f"q{i}", "completion": f"answer {'x' * i}", "label": i % 2 == 0} for i in range(3)
]


@pytest.fixture
def judged(write_rows, tmp_path):
    def make(rows: list[dict] = ROWS, others: bool = True, **renderer: object):
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = CHATML
        made = Renderer(tokenizer, frozenset({IM_END}), **({"max_tokens": 500} | renderer))
        options = PrepareOptions(made.max_tokens, made.overlong, "error", made.train_on)
        source = Source(path=str(write_rows(rows)))
        found = prepare([source], JudgedEncoder(made, others), options, tmp_path / "cache")
        return found, made

    return make


def said(example, renderer: Renderer) -> list[str]:
    """What is trained of each sequence."""
    decode = renderer.tokenizer.decode
    return [decode(one.input_ids[one.trained][:-1]) for one in example.sequences()]


def test_beside_each_answer_stands_that_of_the_next_row(judged) -> None:
    found, renderer = judged()
    assert [said(one, renderer) for one in found] == [
        ["answer ", "answer x"],
        ["answer x", "answer xx"],
        ["answer xx", "answer "],
    ]
    assert [one.numbers["good"].tolist() for one in found] == [[1.0], [0.0], [1.0]]
    prompts = [renderer.tokenizer.decode(s.input_ids[:17]) for s in found[0].sequences()]
    assert prompts[0] == prompts[1]


def test_both_sequences_keep_the_token_contract(judged) -> None:
    found, renderer = judged()
    checks = {one.name: one for one in check(found, None, renderer)}
    assert checks[STOP].ok
    assert checks[PREFIX].ok


def test_without_others_an_example_is_one_answer(judged) -> None:
    found, renderer = judged(others=False)
    assert [said(one, renderer) for one in found] == [["answer "], ["answer x"], ["answer xx"]]


def test_a_preference_is_a_good_and_a_bad_answer(judged) -> None:
    rows = [{"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(2)]
    found, renderer = judged(rows)
    assert [said(one, renderer)[0] for one in found] == ["yes 0", "no 0", "yes 1", "no 1"]
    assert [said(one, renderer)[1] for one in found] == ["yes 1", "yes 1", "yes 0", "yes 0"]
    assert [one.numbers["good"].item() for one in found] == [1.0, 0.0, 1.0, 0.0]


def test_answers_to_the_same_prompt_are_passed_over(judged) -> None:
    rows = [{**ROWS[0], "completion": f"a{i}"} for i in range(2)] + [ROWS[1]]
    found, renderer = judged(rows)
    assert [said(one, renderer)[1] for one in found] == ["answer x", "answer x", "a0"]


def test_a_last_row_by_itself_takes_one_of_those_before(judged) -> None:
    rows = [{"prompt": f"q{i}", "completion": f"a{i}", "label": 1} for i in range(65)]
    found, renderer = judged(rows)
    assert said(found[64], renderer) == ["a64", "a63"]


def test_one_row_has_no_other(judged) -> None:
    with pytest.raises(DataError, match="no answer of another row that fits behind this prompt"):
        judged(ROWS[:1])


def test_an_answer_that_fits_is_preferred_and_else_one_is_cut(judged) -> None:
    long, short = {**ROWS[0], "prompt": "q" * 20}, {**ROWS[1], "completion": "y" * 25}
    fits, renderer = judged([long, short, ROWS[2]], max_tokens=50)
    assert said(fits[0], renderer)[1] == "answer xx"
    cut, renderer = judged([long, short], max_tokens=50)
    assert said(cut[0], renderer)[1] == "y" * 10
    assert cut.counts.truncated == 1


def test_a_row_that_is_too_long_is_an_error_of_its_own(judged) -> None:
    with pytest.raises(DataError, match="1 row with more than 40 tokens"):
        judged([{**ROWS[0], "prompt": "q" * 60}, *ROWS[1:]], max_tokens=40)
