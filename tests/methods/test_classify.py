"""The loss of classify by pencil, its labels, and the token that is read."""

import json
import math

import numpy as np
import pytest
import torch

from tunesmith.data.row import RowProblem
from tunesmith.data.section import Source
from tunesmith.data.shapes import detect, labelled
from tunesmith.data.template import Renderer
from tunesmith.errors import DataError
from tunesmith.methods import classify
from tunesmith.methods.classify import Config, judged
from tunesmith.testing.tiny import IM_END, PAD, byte_tokenizer


def test_one_class_of_several_by_hand():
    scores = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    found = judged(scores, torch.tensor([0.0, 1.0]), "single")
    # softmax is (3/4, 1/4) and (1/2, 1/2)
    assert found["loss"].tolist() == pytest.approx([math.log(4 / 3), math.log(2)])
    assert found["accuracy"].tolist() == [1.0, 0.0]


def test_several_classes_by_hand():
    scores = torch.tensor([[math.log(3.0), -math.log(3.0)]])
    found = judged(scores, torch.tensor([[1.0, 1.0]]), "multi")
    # sigma is 3/4 and 1/4, both should be 1
    assert found["loss"].item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    assert found["accuracy"].item() == 0.0


def test_a_number_by_hand():
    found = judged(torch.tensor([[1.5]]), torch.tensor([1.0]), "regression")
    assert (found["loss"].item(), found["error"].item()) == (0.25, 0.5)


def test_the_macro_f1_by_hand():
    values = {"_class": np.array([0.0, 0, 1, 2]), "_said": np.array([0.0, 1, 1, 1])}
    # class 0: tp 1, fn 1 -> 2/3; class 1: tp 1, fp 2 -> 1/2; class 2: 0
    found = classify.overall(values, np.ones(4), {})["f1_macro"]
    assert found == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def _file(tmp_path, *labels):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": "a", "label": label}) + "\n" for label in labels))
    return [Source(path=str(path))]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(["b", "a", "b"], ["a", "b"]), ([10, 9], ["9", "10"]), ([True, False], ["false", "true"])],
)
def test_the_labels_of_the_rows_are_sorted(tmp_path, labels, expected):
    assert classify.settle(Config(), _file(tmp_path, *labels)).labels == expected


def test_the_labels_are_found_under_the_name_that_the_file_gives_them(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"said": "a", "intent": label}) + "\n" for label in "yx"))
    source = Source(path=str(path), columns={"text": "said", "label": "intent"})
    assert classify.settle(Config(), [source]).labels == ["x", "y"]


def test_labels_that_are_given_stay(tmp_path):
    config = Config(labels=["z", "a"])
    assert classify.settle(config, _file(tmp_path, "q")) == config


def test_one_class_alone_is_refused(tmp_path):
    with pytest.raises(DataError, match="1 label in all rows; expected rows of at least two"):
        classify.settle(Config(), _file(tmp_path, "a", "a"))


def _examples(row, tokenizer=None, **keys):
    renderer = Renderer(tokenizer or byte_tokenizer(), frozenset({IM_END}))
    config = Config(**{"labels": ["x", "y"], **keys})
    return classify.encoder(renderer, config).examples(labelled.read(row))


def test_a_text_is_read_as_the_tokenizer_writes_it():
    (one,) = _examples({"text": "né", "label": "y"})
    assert one.input_ids.tolist() == list("né".encode())
    assert not one.trained.any()
    assert one.numbers == {"label": 1.0}


def test_a_text_of_one_token_is_read():
    (one,) = _examples({"text": "a", "label": "x"})
    assert one.input_ids.tolist() == [97]


def test_a_second_text_stands_on_a_line_of_its_own():
    (one,) = _examples({"text": "a", "text_pair": "b", "label": "x"})
    assert bytes(one.input_ids.tolist()) == b"a\nb"


def test_what_transformers_takes_for_padding_is_left_off_the_end():
    (one,) = _examples({"text": "a<|pad|>b<|pad|><|pad|>", "label": "x"})
    assert one.input_ids.tolist() == [97, PAD, 98]
    with pytest.raises(RowProblem, match="without a token"):
        _examples({"text": "<|pad|>", "label": "x"})


def test_the_end_of_a_turn_that_is_the_padding_too_is_left_off():
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = "<|im_end|>"
    written = tokenizer.chat_template.replace("'<|im_end|>' + '\n'", "'<|im_end|>'")
    tokenizer.chat_template = written
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    (one,) = _examples({"messages": turns, "label": "x"}, tokenizer)
    assert tokenizer.decode(one.input_ids).endswith("assistant\na")


def test_turns_without_an_answer_end_with_the_opening_of_one():
    (one,) = _examples({"messages": [{"role": "user", "content": "q"}], "label": "x"})
    assert byte_tokenizer().decode(one.input_ids).endswith("<|im_start|>assistant\n")


def test_several_labels_become_zeros_and_ones():
    (one,) = _examples({"text": "a", "labels": ["y"]}, problem="multi")
    assert list(one.numbers.values()) == [0.0, 1.0]
    with pytest.raises(RowProblem, match="2 labels; expected one label"):
        _examples({"text": "a", "labels": ["x", "y"]})


def test_a_number_is_asked_for():
    with pytest.raises(RowProblem, match="label: 'x'; expected a number"):
        _examples({"text": "a", "label": "x"}, problem="regression")


@pytest.mark.parametrize("label", ["", None, float("nan"), 10**400, ["x"], {}])
def test_what_is_no_label_is_refused(label):
    with pytest.raises(RowProblem, match="expected a text or a number"):
        labelled.read({"text": "a", "label": label})


def test_rows_with_a_label_are_found_among_others():
    row = {"text": "a", "label": "x"}
    assert detect(row, {"labelled", "text"}) == "labelled"
    assert detect(row) == "text"
