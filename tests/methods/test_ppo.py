"""PPO by hand."""

from math import log

import pytest
import torch

from tests.methods.drawn import Given, batch_of, group
from tunesmith.methods import ppo


def test_advantages_by_hand():
    # d_2 = 1 - 0.25 and d_1 = 0.25 - 0.5; a half of d_2 reaches the first token.
    one = group([2, 1], [1.0, 0.0], values=[0.5, 0.25, 0.5])
    found = ppo.gae(one, ppo.Config(trace=0.5))
    assert found.tolist() == pytest.approx([0.125, 0.75, -0.5])


def test_a_discount_and_what_the_model_has_moved():
    one = group([2], [1.0], values=[0.5, 0.2], old=[-1.0, -1.0], reference=[-2.0, -1.5])
    found = ppo.gae(one, ppo.Config(trace=1.0, discount=0.9, beta=0.1))
    # d_1 = -0.1 + 0.9 * 0.2 - 0.5, d_2 = 1 - 0.05 - 0.2.
    assert found.tolist() == pytest.approx([-0.42 + 0.9 * 0.75, 0.75])


def test_returns_are_those_before_advantages_are_scaled():
    one = group([2, 1], [1.0, 0.0], values=[0.5, 0.25, 0.5])
    (lesson,) = ppo.lessons([one], ppo.Config(trace=0.5))
    assert lesson.by_token["return"].tolist() == pytest.approx([0.625, 1.0, 0.0])
    advantage = torch.tensor(lesson.by_token["advantage"])
    assert advantage.mean().item() == pytest.approx(0, abs=1e-6)
    assert advantage.std().item() == pytest.approx(1, rel=1e-5)


def test_the_loss_by_hand():
    one = group([2], [1.0], values=[0.5, 0.25], old=[-1.0, -1.0])
    config = ppo.Config(trace=0.5, value_clip=0.1, value_weight=0.5)
    batch = batch_of([one], ppo.lessons([one], config))
    policy = Given([-1.0 + log(1.1), -1.0], values=[0.9, 0.25])
    found = ppo.loss(policy, batch, config)
    # Advantages 0.125 and 0.75, centred and over their deviation: -+1 / sqrt(2). Returns 0.625 and
    # 1.0; the first value may move to 0.6 only, and the larger distance counts: 0.9 - 0.625.
    errors = (0.275**2 + 0.75**2) / 2
    assert found.total.item() == pytest.approx((1.1 - 1.0) / 2**0.5 + 0.5 * errors, rel=1e-5)
    assert found.count == 2
    assert found.figures["value_error"][0].item() == pytest.approx(errors)


def test_the_value_head_begins_at_0_and_moves_little_in_a_wide_model():
    head, rate = (made := ppo.companion(1000, ppo.Config())).module, made.rate
    states = 50 * torch.randn(4, 1000)
    assert head(states).tolist() == [[0.0]] * 4
    assert rate == 10
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    (1 - head(states)).square().sum().backward()
    optimizer.step()
    assert head(states).abs().max() < 1e-3 * 1000**0.5 + 1e-3
