"""The loss of reward: by pencil, and as TRL computes it."""

import json
import math
from pathlib import Path

import pytest
import torch

from tunesmith.data.row import RowProblem
from tunesmith.data.shapes import preference
from tunesmith.data.template import Renderer
from tunesmith.methods import reward
from tunesmith.testing.tiny import IM_END, byte_tokenizer

TRL = json.loads(Path(__file__).with_name("trl_reward.json").read_text())
ROW = {"prompt": "2 + 2?", "chosen": "4", "rejected": "five"}


def test_the_loss_of_one_pair_by_hand():
    found = reward.judged(torch.tensor([2.0]), torch.tensor([1.0]), 0.5, 0.01)
    # -log sigma(2 - 1 - 0.5) = log(1 + e^-0.5), and 0.01 (2 + 1)^2
    assert found["loss"].item() == pytest.approx(math.log(1 + math.exp(-0.5)) + 0.09)
    assert [found[k].item() for k in ("margin", "accuracy", "reward")] == [1.0, 1.0, 1.5]


def test_equal_rewards_are_half_right_and_cost_log_two():
    found = reward.judged(torch.tensor([0.3]), torch.tensor([0.3]), 0.0, 0.0)
    assert found["loss"].item() == pytest.approx(math.log(2))
    assert found["accuracy"].item() == 0.5


@pytest.mark.parametrize("case", TRL["cases"], ids=str)
def test_loss_and_gradient_are_those_of_trl(case):
    chosen, rejected = (torch.tensor(TRL[k], requires_grad=True) for k in ("chosen", "rejected"))
    margin = torch.tensor(TRL["margin"]) if case["margins"] else 0.0
    loss = reward.judged(chosen, rejected, margin, case["center"])["loss"].mean()
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-6)
    gradient = torch.cat([chosen.grad, rejected.grad])
    torch.testing.assert_close(gradient, torch.tensor(case["gradient"]), rtol=1e-6, atol=1e-8)


def test_both_answers_are_read_up_to_their_end_and_none_is_trained():
    renderer = Renderer(byte_tokenizer(), frozenset({IM_END}))
    (one,) = reward.encoder(renderer, reward.Config()).examples(preference.read(ROW))
    assert not one.trained.any()
    chosen = one.input_ids[: one.parts[0]].tolist()
    assert byte_tokenizer().decode(chosen).endswith("4<|im_end|>\n")
    assert sum(one.parts) == len(one.input_ids)


def test_margins_are_asked_of_every_row():
    renderer = Renderer(byte_tokenizer(), frozenset({IM_END}))
    reader = reward.encoder(renderer, reward.Config(margins=True))
    (one,) = reader.examples(preference.read({**ROW, "margin": 2}))
    assert one.numbers == {"margin": 2.0}
    with pytest.raises(RowProblem, match="no margin"):
        reader.examples(preference.read(ROW))
