"""Documents to examples: nothing lost, cut where it should be, bytes counted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.contract import check
from tunesmith.data.documents import Documents, cuts
from tunesmith.data.row import RowProblem, Text
from tunesmith.data.section import Source
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.data.template import Renderer
from tunesmith.testing.tiny import IM_END, byte_tokenizer

MOST = 8
OPTIONS = PrepareOptions(max_tokens=MOST)


def documents(across: bool = False) -> Documents:
    return Documents(Renderer(byte_tokenizer(), frozenset({IM_END}), max_tokens=MOST), across)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (2, [0, 2]),
        (8, [0, 8]),
        (9, [0, 7, 9]),
        (10, [0, 8, 10]),
        (17, [0, 8, 15, 17]),
        (24, [0, 8, 16, 24]),
    ],
)
def test_parts_are_full_and_none_is_a_single_token(length: int, expected: list[int]) -> None:
    assert cuts(length, MOST) == expected


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip))
def test_no_token_is_lost_and_the_borders_are_those_of_the_whole(text: str) -> None:
    made = documents().examples(Text(text))
    whole = [*text.encode(), IM_END]
    assert np.concatenate([one.input_ids for one in made]).tolist() == whole
    assert all(2 <= len(one.input_ids) <= MOST for one in made)
    assert all(not one.trained[0] and one.trained[1:].all() for one in made)
    assert [one.open_start for one in made] == [False] + [True] * (len(made) - 1)
    assert [one.open_end for one in made] == [True] * (len(made) - 1) + [False]


def test_bytes_are_those_of_the_predicted_tokens_a_split_character_at_its_first() -> None:
    made = documents().examples(Text("abcdef🎉g"))  # 6 + 4 + 1 bytes and the end: 8 + 4 tokens.
    # Predicted in the first: bcdef and the first token of the character; in the second: g, end.
    assert [one.numbers["bytes"] for one in made] == [5 + 4, 1]


def test_across_fills_every_example_but_the_last() -> None:
    encoder = documents(across=True)
    texts = ["abcd", "efg", "hijklmnopqr"]
    made = [one for text in texts for one in encoder.examples(Text(text))]
    assert all(len(one.input_ids) == MOST for one in made)
    made += encoder.rest()
    assert encoder.rest() == []
    joined = b"".join(text.encode() + b"\0" for text in texts)
    expected = [IM_END if byte == 0 else byte for byte in joined]
    assert np.concatenate([one.input_ids for one in made]).tolist() == expected
    # The first ends inside "efg", the second inside the last text, the third with it.
    assert [one.open_start for one in made] == [False, True, True]
    assert [one.open_end for one in made] == [True, True, False]


def test_across_an_example_that_ends_with_a_document_is_closed() -> None:
    encoder = documents(across=True)
    made = [*encoder.examples(Text("abcdefg")), *encoder.examples(Text("hij")), *encoder.rest()]
    assert [one.open_end for one in made] == [False, False]
    assert [one.open_start for one in made] == [False, False]


def test_a_text_of_one_token_is_a_problem() -> None:
    with pytest.raises(RowProblem, match="a text of one token"):
        documents().examples(Text("<|im_end|>"))


@pytest.mark.parametrize("across", [False, True])
def test_the_contract_knows_parts_from_truncated_rows(
    write_rows: Callable[..., Path], tmp_path: Path, across: bool
) -> None:
    path = write_rows([{"text": "a" * 20}, {"text": "bcd"}, {"text": "déjà vu"}])
    encoder = documents(across)
    train = prepare([Source(path=str(path))], encoder, OPTIONS, tmp_path / "cache")
    found = {c.name: c for c in check(train, None, encoder._renderer)}
    assert train.counts.truncated == 0
    assert train.counts.tokens == 21 + 4 + 10
    assert found["stop token"].ok
    assert found["lengths"].ok
    assert f"cut in two {train.counts.cuts} times" in found["lengths"].says
    assert train.counts.cuts == (4 if across else 3)


def test_a_part_needs_no_bos_and_a_document_does(tmp_path: Path, write_rows) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = "<|im_start|>"
    tokenizer.add_bos_token = True
    renderer = Renderer(tokenizer, frozenset({IM_END}), max_tokens=MOST)
    renderer.bos = [tokenizer.bos_token_id]
    encoder = Documents(renderer, False)
    train = prepare(
        [Source(path=str(write_rows([{"text": "a" * 20}])))], encoder, OPTIONS, tmp_path / "c"
    )
    assert len(train) == 3
    assert train[0].input_ids[0] == renderer.bos[0]
    assert {c.name: c.ok for c in check(train, None, renderer)}["BOS first"]
