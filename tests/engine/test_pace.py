"""The line of the pace: found again where it is known, never negative."""

import numpy as np
import pytest

from tunesmith.engine.pace import Pace, fit_pace, spread

TOKENS = np.array([200.0, 500.0, 900.0, 1200.0])
SQUARES = np.array([30_000.0, 250_000.0, 200_000.0, 900_000.0])


@pytest.mark.parametrize("known", [Pace(0.02, 1e-3, 2e-7), Pace(0.0, 1e-3, 2e-7)])
def test_a_line_is_found_again(known: Pace) -> None:
    found = fit_pace(TOKENS, SQUARES, known.seconds(TOKENS, SQUARES))
    assert found.seconds(TOKENS, SQUARES) == pytest.approx(known.seconds(TOKENS, SQUARES))
    assert found.per_token == pytest.approx(known.per_token)


def test_seconds_by_hand() -> None:
    assert Pace(1.0, 0.5, 0.25).seconds(np.array([4.0]), np.array([8.0])).tolist() == [5.0]


def test_no_term_is_negative() -> None:
    # Larger passes are quicker per token than any line through positive terms allows.
    found = fit_pace(TOKENS, SQUARES, np.sqrt(TOKENS))
    assert min(found.per_pass, found.per_token, found.per_square) >= 0
    assert found.per_pass > 0


@pytest.mark.parametrize("tokens", [[300.0], [300.0, 300.0]])
def test_equal_passes_give_a_line_through_the_origin(tokens: list[float]) -> None:
    found = fit_pace(tokens, [90_000.0] * len(tokens), [0.3] * len(tokens))
    assert found.seconds(np.array([600.0]), np.array([180_000.0]))[0] == pytest.approx(0.6)


def test_noise_of_a_few_percent_moves_the_sum_by_less() -> None:
    known = Pace(0.02, 1e-3, 2e-7)
    random = np.random.default_rng(0)
    tokens = random.uniform(100, 1000, 8)
    squares = tokens * random.uniform(50, 400, 8)
    true = known.seconds(tokens, squares)
    found = fit_pace(tokens, squares, true * random.uniform(0.95, 1.05, 8))
    assert found.seconds(tokens, squares).sum() == pytest.approx(true.sum(), rel=0.03)


def test_spread_by_hand() -> None:
    cost = np.array([50.0, 10.0, 40.0, 20.0, 30.0, 60.0])
    assert spread(cost, 3).tolist() == [3, 2, 5]
    assert spread(cost, 99).tolist() == [1, 3, 4, 2, 0, 5]
