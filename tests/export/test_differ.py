"""The figures of a certificate, with values worked out by hand."""

import math

import pytest
import torch

from tunesmith.export.asked import Asked, Reply, reply
from tunesmith.export.certificate import compare
from tunesmith.export.differ import differ
from tunesmith.export.stranger import Told
from tunesmith.export.tolerance import STORED, Tolerance


def _reply(*rows, answering=None, losses=(), token_ids=()):
    return Reply(
        torch.tensor(rows),
        torch.tensor(answering or [True] * len(rows)),
        torch.tensor(losses, dtype=torch.float64),
        list(token_ids),
    )


def test_kl_of_two_coins():
    ours = _reply([0.0, 0.0], [math.log(3), 0.0])
    theirs = _reply([math.log(3), 0.0], [math.log(3), 0.0])
    found = differ(ours, theirs)
    # 1/2 log(1/2 / 3/4) + 1/2 log(1/2 / 1/4) = 1/2 log(4/3)
    assert found.worst_kl == pytest.approx(0.5 * math.log(4 / 3), rel=1e-6)
    assert found.mean_kl == pytest.approx(0.25 * math.log(4 / 3), rel=1e-6)
    assert found.max_logit_difference == pytest.approx(math.log(3))
    # Without their means: 0 and +-log(3)/2 in the first row, nothing in the second.
    assert found.relative_difference == pytest.approx(1.0)


def test_a_constant_added_to_all_logits_is_no_difference():
    found = differ(_reply([1.0, 2.0, 3.0]), _reply([2.0, 3.0, 4.0]))
    assert found.worst_kl == pytest.approx(0, abs=1e-12)
    assert found.relative_difference == pytest.approx(0, abs=1e-7)
    assert found.max_logit_difference == 1.0


def test_greedy_tokens_count_in_answers_alone():
    ours = _reply([1.0, 0.0], [1.0, 0.0], [1.0, 0.0], answering=[False, True, True])
    theirs = _reply([0.0, 1.0], [0.0, 1.0], [1.0, 0.0])
    assert differ(ours, theirs).equal_greedy_tokens == 0.5


def test_what_is_not_a_number_keeps_no_limit():
    told = Told(_reply([math.nan, 0.0]), "nobody")
    made = compare(Asked([[1, 2]], 1), _reply([1.0, 0.0]), told, STORED["q8_0"])
    assert not made.ok
    assert any("mean_kl nan" in fault for fault in made.faults())


def test_loss_on_heldout_rows_is_told_beside():
    rows = [([1, 2, 3], [False, True, True])]
    ours, theirs = _reply([1.0, 0.0], losses=[3.0]), Told(_reply([1.0, 0.0], losses=[4.0]), "x")
    loss = compare(Asked([[1, 2]], 1, rows), ours, theirs, Tolerance()).heldout_loss
    assert (loss.rows, loss.tokens, loss.trained, loss.exported) == (1, 2, 1.5, 2.0)


def test_only_targets_carry_loss_and_long_sequences_are_compared_at_their_end():
    logits = torch.zeros(100, 4)
    asked = Asked([list(range(100))], 2, [([0, 1, 2, 3], [False, False, True, True])])
    made = reply(lambda ids: logits[: len(ids)], lambda text: [], asked)
    assert made.losses.tolist() == pytest.approx([2 * math.log(4)])
    assert len(made.logits) == 64
    assert made.answering.tolist() == [False] * 62 + [True] * 2
