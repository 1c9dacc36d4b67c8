"""The losses of preference methods: by hand, and equal to TRL's on the same log-probabilities."""

import json
import math
from pathlib import Path

import pytest
import torch

from tests.methods.told import Told, batch_of
from tunesmith.config.check import check
from tunesmith.errors import RecipeError
from tunesmith.methods import base

TRL = json.loads(Path(__file__).with_name("trl_values.json").read_text())
LOG_2 = math.log(2)


def method_of(name: str, **keys: object):
    method = base.load(name)
    return method, method.Config(**keys)


def one_pair(name: str, chosen: list[float], rejected: list[float], told=(0.0, 0.0), **keys):
    """What a method measures of one pair with these log-probabilities; `told` by the reference."""
    numbers = {"margin": [keys.pop("margin")]} if "margin" in keys else {}
    method, config = method_of(name, **keys)
    batch = batch_of([[len(chosen), len(rejected)]], [told], **numbers)
    return method.measure(Told(chosen + rejected), batch, config)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# log p(w) - log p0(w) = 1 and log p(l) - log p0(l) = -1, so that beta 0.5 gives z = 1.
PAIR = ([-1.0, -2.0], [-2.0, -1.0, -1.0, -1.0], (-4.0, -4.0))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, -math.log(sigmoid(1))),
        ({"label_smoothing": 0.2}, -0.8 * math.log(sigmoid(1)) - 0.2 * math.log(sigmoid(-1))),
        (
            {"label_smoothing": 0.2, "variant": "robust"},
            (-0.8 * math.log(sigmoid(1)) + 0.2 * math.log(sigmoid(-1))) / 0.6,
        ),
        ({"variant": "hinge"}, 0.0),
        ({"variant": "hinge", "beta": 0.25}, 0.5),
        # The means: 1 / 2 and -1 / 4, so z = 0.5 * 0.75.
        ({"average": True}, -math.log(sigmoid(0.375))),
        # -log p(w) / |w| = 3 / 2.
        ({"sft_weight": 2.0}, -math.log(sigmoid(1)) + 3.0),
        ({"margin_weight": 0.5, "margin": 3.0}, -math.log(sigmoid(-0.5))),
    ],
)
def test_dpo_by_hand(keys: dict, expected: float) -> None:
    found = one_pair("dpo", *PAIR, **({"beta": 0.5} | keys))
    assert found["loss"].item() == pytest.approx(expected, rel=1e-6)
    assert found["accuracy"].item() == 1.0
    assert found["chosen_log_prob"].item() == -3.0
    assert found["rejected_log_prob"].item() == -5.0


def test_before_training_dpo_is_log_2_and_neither_answer_wins() -> None:
    found = one_pair("dpo", [-1.0, -2.0], [-0.5], (-3.0, -0.5))
    assert found["loss"].item() == pytest.approx(LOG_2)
    assert (found["margin"].item(), found["accuracy"].item()) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, (0.75 - 1.0) ** 2),
        ({"average": False}, (2.0 - 1.0) ** 2),
        ({"sft_weight": 2.0}, (0.75 - 1.0) ** 2 + 3.0),
    ],
)
def test_ipo_by_hand(keys: dict, expected: float) -> None:
    found = one_pair("ipo", *PAIR, beta=0.5, **keys)
    assert found["loss"].item() == pytest.approx(expected, rel=1e-6)


def test_cpo_by_hand() -> None:
    # z = 0.5 (-3 + 5) = 1, and -log p(w) / |w| = 1.5.
    found = one_pair("cpo", *PAIR, beta=0.5)
    assert found["loss"].item() == pytest.approx(-math.log(sigmoid(1)) + 1.5, rel=1e-6)
    assert found["margin"].item() == pytest.approx(1.0)


def test_simpo_by_hand() -> None:
    # Means -1.5 and -1.25: 2 (-0.25) - 1 = -1.5.
    found = one_pair("simpo", *PAIR)
    assert found["loss"].item() == pytest.approx(-math.log(sigmoid(-1.5)), rel=1e-6)
    assert (found["margin"].item(), found["accuracy"].item()) == (-0.5, 0.0)


def test_orpo_by_hand() -> None:
    # P = 1/2 and 1/4: odds 1 and 1/3, so the ratio is 3 and its share 3/4.
    found = one_pair("orpo", [-LOG_2] * 3, [-2 * LOG_2])
    assert found["loss"].item() == pytest.approx(LOG_2 - 0.1 * math.log(0.75), rel=1e-6)
    assert found["margin"].item() == pytest.approx(math.log(3), rel=1e-6)


def test_orpo_of_a_certain_answer_is_finite() -> None:
    method, config = method_of("orpo")
    policy = Told([0.0, 0.0, -1.0])
    found = method.loss(policy, batch_of([[2, 1]]), config)
    found.total.backward()
    assert found.total.isfinite()
    assert policy.log_probs.grad.isfinite().all()


KTO_LENGTHS = [[1, 1], [1, 1]]
# Log-ratios 2 (good) and 1 (bad); those of answers to something else 1.5 and -0.5: z = 0.5.
KTO_TOLD = ([-1.0, -2.0, -1.0, -2.5], [[-3.0, -3.5], [-2.0, -2.0]])


def kto_batch(packed: bool = True):
    return batch_of(KTO_LENGTHS, KTO_TOLD[1], packed, good=[1, 0])


@pytest.mark.parametrize("packed", [True, False])
def test_kto_by_hand(packed: bool) -> None:
    method, config = method_of("kto", beta=0.5, good_weight=2.0, bad_weight=3.0)
    found = method.measure(Told(KTO_TOLD[0]), kto_batch(packed), config)
    expected = [2 * (1 - sigmoid(0.75)), 3 * (1 - sigmoid(-0.25))]
    assert found["loss"].tolist() == pytest.approx(expected, rel=1e-6)
    assert found["margin"].tolist() == pytest.approx([0.75, -0.25])
    assert found["accuracy"].tolist() == [1.0, 0.0]
    assert found["kl"].tolist() == [0.5, 0.5]


def test_kto_without_a_point_to_judge_from() -> None:
    method, config = method_of("kto", beta=0.5, variant="apo_zero")
    batch = batch_of([[1], [1]], [[-3.0], [-2.0]], good=[1, 0])
    found = method.measure(Told([-1.0, -1.0]), batch, config)
    assert found["loss"].tolist() == pytest.approx([sigmoid(-1), sigmoid(0.5)], rel=1e-6)


def test_kto_moves_no_answer_to_something_else() -> None:
    method, config = method_of("kto")
    policy = Told(KTO_TOLD[0])
    method.loss(policy, kto_batch(), config).total.backward()
    assert policy.log_probs.grad[[1, 3]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("case", TRL["cases"])
@pytest.mark.parametrize("packed", [True, False])
def test_losses_and_gradients_are_those_of_trl(case: str, packed: bool) -> None:
    told = TRL["cases"][case]
    method, config = method_of(case.split()[0], **told["keys"])
    numbers = {"good": TRL["good"]} if config.name == "kto" else {}
    policy = Told(TRL["log_probs"])
    batch = batch_of(TRL["lengths"], TRL["reference"], packed, **numbers)
    found = method.loss(policy, batch, config)
    mean = found.total / found.count
    mean.backward()
    assert mean.item() == pytest.approx(told["loss"], rel=1e-5)
    gradient = torch.tensor(told["gradient"])
    torch.testing.assert_close(policy.log_probs.grad, gradient, rtol=1e-5, atol=1e-6)


def test_figures_are_sums_over_pairs() -> None:
    method, config = method_of("dpo", beta=0.5)
    batch = batch_of([[1, 1], [1, 1]])
    found = method.loss(Told([-1.0, -2.0, -3.0, -2.0]), batch, config)
    figures = {name: (value.item(), count) for name, (value, count) in found.figures.items()}
    assert figures == {
        "margin": (0.0, 2),
        "accuracy": (1.0, 2),
        "chosen_log_prob": (-4.0, 2),
        "rejected_log_prob": (-4.0, 2),
    }


@pytest.mark.parametrize("name", ["dpo", "cpo"])
def test_smoothing_of_a_hinge_is_refused(name: str) -> None:
    keys = {"name": name, "variant": "hinge", "label_smoothing": 0.1}
    with pytest.raises(RecipeError, match="label_smoothing with variant sigmoid"):
        check(base.load(name).Config, keys, "method")
