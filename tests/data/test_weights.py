"""Weights of messages other than 0 and 1: on the tokens, on disk, in batches, and refused."""

import pytest

from tunesmith.data.collate import collate
from tunesmith.data.encoded import together
from tunesmith.data.row import Conversation, Message, RowProblem
from tunesmith.data.section import Source
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.errors import DataError

TALK = Conversation(
    (
        Message("user", "q"),
        Message("assistant", "ab", weight=0.5),
        Message("user", "r"),
        Message("assistant", "c", weight=2.0),
    )
)
ROW = {
    "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "ab", "weight": 0.5},
    ]
}
PLAIN = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}]}


def test_each_answer_and_its_end_have_the_weight_of_the_message(make_renderer) -> None:
    encoded = make_renderer().encode(TALK)
    assert encoded.weights[encoded.trained].tolist() == [0.5] * 3 + [2.0] * 2
    assert not encoded.weights[~encoded.trained].any()


def test_train_on_last_leaves_the_weight_of_the_last(make_renderer) -> None:
    encoded = make_renderer(train_on="last").encode(TALK)
    assert encoded.weights[encoded.trained].tolist() == [2.0] * 2


def test_cut_rows_keep_the_weights_of_what_is_left(make_renderer) -> None:
    whole = make_renderer().encode(TALK)
    cut = make_renderer(overlong="truncate", max_tokens=len(whole.input_ids) - 3).encode(TALK)
    assert cut.weights.tolist() == whole.weights[:-3].tolist()


def test_weights_of_0_and_1_are_no_weights(make_renderer) -> None:
    messages = (*TALK.messages[:1], Message("assistant", "ab", weight=0.0), *TALK.messages[2:3])
    talk = Conversation((*messages, Message("assistant", "c", weight=1.0)))
    assert len(make_renderer().encode(talk).weights) == 0


def test_a_batch_brings_the_weight_of_every_target(make_renderer, write_rows, tmp_path) -> None:
    source = Source(path=str(write_rows([PLAIN, ROW])))
    encoder = make_renderer().weighing()
    prepared = prepare([source], encoder, PrepareOptions(2048), tmp_path / "cache")
    for packed in (True, False):
        batch = collate([prepared[1], prepared[0]], packed, 0)
        assert batch.numbers["weights"].tolist() == [0.5] * 3 + [1.0] * 2
        assert len(batch.targets) == 5


def test_a_data_set_without_weights_brings_none(make_renderer, write_rows, tmp_path) -> None:
    source = Source(path=str(write_rows([PLAIN])))
    prepared = prepare([source], make_renderer().weighing(), PrepareOptions(2048), tmp_path / "c")
    assert "weights" not in prepared[0].numbers


def test_a_method_that_does_not_weigh_refuses_them(make_renderer, write_rows, tmp_path) -> None:
    source = Source(path=str(write_rows([ROW])))
    with pytest.raises(DataError, match=r"rows\.jsonl:1.*weight other than 0 and 1"):
        prepare([source], make_renderer(), PrepareOptions(2048), tmp_path / "cache")
    with pytest.raises(RowProblem, match="weight other than 0 and 1"):
        together([make_renderer().encode(TALK)] * 2)
