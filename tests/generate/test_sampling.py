import numpy as np
import pytest
import torch

from tunesmith.generate import sampling
from tunesmith.generate.options import Sampling
from tunesmith.generate.sampling import draw, nucleus, uniforms

PROBABILITIES = torch.tensor([0.7, 0.2, 0.1])


def test_the_token_in_whose_stretch_the_number_falls():
    logits = PROBABILITIES.log().expand(6, 3)
    numbers = torch.tensor([0.0, 0.69, 0.71, 0.89, 0.91, 1 - 2**-53], dtype=torch.float64)
    tokens, log_probs = draw(logits, numbers, Sampling(1.0))
    assert tokens.tolist() == [0, 0, 1, 1, 2, 2]
    expected = PROBABILITIES.log()[tokens].double()
    torch.testing.assert_close(log_probs, expected)


def test_a_token_without_probability_is_never_drawn():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(3, 5)
    numbers = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert draw(logits, numbers, Sampling(1.0))[0].tolist() == [1, 3, 3]


def test_draws_follow_the_probabilities_at_the_temperature():
    # At temperature 2 the probabilities are proportional to their square roots.
    expected = PROBABILITIES.sqrt() / PROBABILITIES.sqrt().sum()
    numbers = torch.from_numpy(uniforms(0, (0, 0), 20_000))
    tokens, log_probs = draw(PROBABILITIES.log().expand(20_000, 3), numbers, Sampling(2.0))
    share = torch.bincount(tokens, minlength=3) / 20_000
    torch.testing.assert_close(share, expected, atol=0.015, rtol=0)
    torch.testing.assert_close(log_probs, expected.log().double()[tokens])


def test_greedy_gives_the_log_probability_at_temperature_one():
    tokens, log_probs = draw(PROBABILITIES.log()[None], None, Sampling(0.0))
    assert tokens.tolist() == [0]
    torch.testing.assert_close(log_probs, torch.tensor([0.7]).log().double())


def test_the_log_probability_is_that_before_the_nucleus():
    tokens, log_probs = draw(
        PROBABILITIES.log()[None], torch.tensor([0.99], dtype=torch.float64), Sampling(1.0, 0.8)
    )
    assert tokens.tolist() == [1]
    torch.testing.assert_close(log_probs, torch.tensor([0.2]).log().double())


@pytest.mark.parametrize("one", [Sampling(1e-300), Sampling(1.0, 1e-9)])
def test_no_heat_or_no_nucleus_is_greedy(one):
    logits = torch.tensor([[1.0, 1.001, 0.5]], dtype=torch.float32)
    for number in (0.0, 0.5, 0.999):
        numbers = torch.tensor([number], dtype=torch.float64)
        assert draw(logits, numbers, one)[0].tolist() == [1]


def test_large_logits_in_bf16():
    logits = torch.tensor([[30_000.0, 29_000.0, -30_000.0]], dtype=torch.bfloat16)
    tokens, log_probs = draw(logits, torch.tensor([0.999999], dtype=torch.float64), Sampling(1.0))
    assert (tokens.tolist(), log_probs.tolist()) == ([0], [0.0])


def test_nucleus_keeps_the_fewest_tokens_that_reach_top_p():
    probabilities = torch.tensor([[0.1, 0.5, 0.25, 0.15]], dtype=torch.float64)
    assert nucleus(probabilities, 0.5).tolist() == [[0.0, 0.5, 0.0, 0.0]]
    assert nucleus(probabilities, 0.6).tolist() == [[0.0, 0.5, 0.25, 0.0]]
    assert nucleus(probabilities, 0.8).tolist() == [[0.0, 0.5, 0.25, 0.15]]
    assert nucleus(probabilities, 1.0).tolist() == probabilities.tolist()
    assert nucleus(4 * probabilities, 0.6).tolist() == [[0.0, 2.0, 1.0, 0.0]]


def test_as_probable_as_the_last_of_the_nucleus_is_inside():
    probabilities = torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64)
    assert nucleus(probabilities, 0.6).tolist() == probabilities.tolist()


def test_a_nucleus_larger_than_the_candidates(monkeypatch):
    weights = torch.rand(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = nucleus(weights, 0.7)
    assert int((expected > 0).sum(-1).min()) > 4
    monkeypatch.setattr(sampling, "CANDIDATES", 4)
    assert torch.equal(nucleus(weights, 0.7), expected)


def test_each_answer_has_numbers_of_its_own():
    all_of_them = [uniforms(s, (p, a), 4) for s in (0, 1) for p in (0, 1) for a in (0, 1)]
    assert len({tuple(numbers) for numbers in all_of_them}) == 8
    assert np.array_equal(uniforms(3, (1, 2), 4), uniforms(3, (1, 2), 9)[:4])
