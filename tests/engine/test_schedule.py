"""The learning rate is the function it says, at every step."""

import pytest

from tunesmith.engine.schedule import LearningRate


def test_cosine_by_hand():
    rate = LearningRate(peak=1.0, shape="cosine", warmup=2, num_steps=6)
    # Warmup 1/2, 2/2; then 0.5 (1 + cos(pi k / 4)) for k = 0..3.
    assert [round(rate(step), 4) for step in range(6)] == [0.5, 1.0, 1.0, 0.8536, 0.5, 0.1464]


def test_linear_by_hand():
    rate = LearningRate(peak=2.0, shape="linear", warmup=0, num_steps=4)
    assert [rate(step) for step in range(4)] == [2.0, 1.5, 1.0, 0.5]


def test_wsd_holds_and_decays_over_the_last_fifth():
    rate = LearningRate(peak=1.0, shape="wsd", warmup=0, num_steps=10)
    assert [round(rate(step), 4) for step in range(10)] == [1.0] * 9 + [0.5]


def test_constant_after_a_share_of_warmup():
    rate = LearningRate(peak=1.0, shape="constant", warmup=0.25, num_steps=8)
    assert [rate(step) for step in range(8)] == [0.5] + [1.0] * 7


def test_inverse_sqrt_by_hand():
    rate = LearningRate(peak=1.0, shape="inverse_sqrt", warmup=4, num_steps=100)
    # Warmup 1/4 .. 4/4; then sqrt(4 / (step + 1)).
    assert [rate(step) for step in (0, 3, 8, 15, 99)] == [0.25, 1.0, 2 / 3, 0.5, 0.2]
    floored = LearningRate(1.0, "inverse_sqrt", 4, 100, floor=0.3)
    assert floored(99) == 0.3


def test_a_floor_is_approached_and_leaves_warmup_alone():
    rate = LearningRate(peak=2.0, shape="linear", warmup=2, num_steps=6, floor=0.5)
    assert [rate(step) for step in range(6)] == [1.0, 2.0, 2.0, 1.75, 1.5, 1.25]
    assert LearningRate(1.0, "constant", 0, 4, floor=0.5)(3) == 1.0
    assert LearningRate(1.0, "cosine", 0, 2, floor=0.1)(1) == pytest.approx(0.1 + 0.9 * 0.5)


@pytest.mark.parametrize("shape", ["constant", "linear", "cosine", "wsd", "inverse_sqrt"])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 1000])
def test_no_step_is_wasted_and_none_exceeds_the_peak(shape, num_steps):
    rate = LearningRate(peak=3e-4, shape=shape, warmup=0.03, num_steps=num_steps)
    assert all(0 < rate(step) <= 3e-4 * (1 + 1e-12) for step in range(num_steps))
