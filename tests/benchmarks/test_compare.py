"""Speeds, paired ratios, and what counts as a disagreement."""

import pytest

from benchmarks.compare import Spread, compare, disagreement, paired_ratios, speed, spread
from benchmarks.roster import OURS


def run(side=OURS, repeat=0, seconds=2.0, losses=(2.0, 1.5, 1.0), tokens=100, **more) -> dict:
    """A run of a warm-up step and two timed ones, each of so many seconds."""
    steps = [
        {"seconds": seconds, "tokens": tokens, "trained": 50, "computed": 125, "loss": loss}
        for loss in losses
    ]
    return {"side": side, "repeat": repeat, "steps": steps, "peak_gib": 1.5, **more}


def test_the_warm_up_step_is_not_timed():
    one = run(seconds=2.0)
    one["steps"][0]["seconds"] = 1000.0
    assert speed(one) == 50.0
    assert speed(one, "trained") == 25.0


def test_spread_is_median_smallest_and_largest():
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_ratios_are_taken_within_a_repeat():
    # The machine was twice as slow in the second repeat: for both, so the ratio stays 4.
    ours = {0: run(seconds=1.0), 1: run(seconds=2.0)}
    theirs = {0: run("trl", seconds=4.0), 1: run("trl", seconds=8.0)}
    assert paired_ratios(ours, theirs) == Spread(4.0, 4.0, 4.0)


def test_a_repeat_that_one_side_lacks_is_left_out():
    ours = {0: run(seconds=1.0), 1: run(seconds=1.0)}
    assert paired_ratios(ours, {1: run("trl", seconds=3.0)}) == Spread(3.0, 3.0, 3.0)
    assert paired_ratios(ours, {2: run("trl")}) is None


def test_a_side_is_a_row_with_ratio_padding_and_peak():
    runs = [run(seconds=1.0), run("trl", seconds=5.0, peak_gib=4.0)]
    ours, theirs = compare(runs, [OURS, "trl", "litgpt"])
    assert (ours.side, ours.ratio, ours.tokens.median) == (OURS, None, 100.0)
    assert theirs.ratio == Spread(5.0, 5.0, 5.0)
    assert theirs.padding == pytest.approx(0.2)
    assert theirs.peak_gib == 4.0
    assert theirs.losses == (2.0, 1.5, 1.0)
    assert not theirs.wrong


def test_losses_are_the_means_over_the_repeats():
    runs = [run(losses=(2.0, 1.0)), run(repeat=1, losses=(4.0, 3.0))]
    assert compare(runs, [OURS])[0].losses == (3.0, 2.0)


def test_a_refusal_is_no_failure_and_keeps_its_reason():
    runs = [{"side": "litgpt", "repeat": 0, "refused": "LitGPT has no dpo", "peak_gib": 0.1}]
    (row,) = compare(runs, ["litgpt"])
    assert (row.tokens, row.remark, row.wrong) == (None, "LitGPT has no dpo", False)


def test_a_failure_is_wrong():
    runs = [{"side": "trl", "repeat": 0, "failed": "exit 1: boom", "peak_gib": 0.1}]
    (row,) = compare(runs, ["trl"])
    assert (row.remark, row.wrong) == ("failed: exit 1: boom", True)


def test_equal_work_agrees():
    assert disagreement(run(), run("trl", seconds=9.0, losses=(2.01, 1.55, 0.97))) == ""


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (run("trl", tokens=101), "step 1: 101 tokens instead of 100"),
        (run("trl", losses=(2.1, 1.5, 1.0)), "step 1: loss 2.1000 instead of 2.0000"),
        (run("trl", losses=(2.0, 1.6, 1.0)), "step 2: loss 1.6000 instead of 1.5000"),
        (run("trl", losses=(2.0, float("nan"), 1.0)), "step 2: loss nan instead of 1.5000"),
        (run("trl", losses=(2.0, 1.5)), "2 steps instead of 3"),
    ],
)
def test_unequal_work_is_said(theirs, says):
    assert disagreement(run(), theirs) == says
    assert compare([run(), theirs], [OURS, "trl"])[1].wrong


def test_a_quantised_base_starts_further_away():
    job = {"quantize": "nf4"}
    assert disagreement(run(job=job), run("trl", job=job, losses=(2.05, 1.5, 1.0))) == ""
    assert disagreement(run(job=job), run("trl", job=job, losses=(2.2, 1.5, 1.0)))
