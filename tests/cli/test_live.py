"""A run while it goes on: what the live line and the plain lines say."""

from collections.abc import Iterable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tunesmith.cli.live import Live, rejection
from tunesmith.cli.progress import Progress, evaluation
from tunesmith.runs.events import (
    Evaluated,
    Event,
    Finished,
    Forgetting,
    Phase,
    Planned,
    Saved,
    Started,
    Step,
    TaskScore,
    Warned,
)
from tunesmith.runs.timeline import Timeline
from tunesmith.testing.fake_run import events, fake_run

PLANNED = Planned(100, 2.0, 1000, 0, 5000, 900, 1000, "fp32", "cpu")


def step(number: int, loss: float = 1.0, seconds: float = 2.0, rejected: bool = False) -> Step:
    rows = tuple(("data/a.jsonl", row) for row in range(1, 9)) if rejected else ()
    return Step(number, 0.1, loss, 1e-4, 1.0, 500, 90, seconds, 2.14, rejected, rows)


def evaluated(number: int, score: float, kl: float) -> Evaluated:
    return Evaluated(number, 0.5, (TaskScore("tickets", 200, score),), Forgetting(kl, 1.0), 10.0)


def plain(told: Iterable[Event], earlier: Timeline | None = None) -> list[str]:
    """The lines of a log that is no terminal."""
    console = Console(file=StringIO(), width=40)
    with Live(console, earlier) as live:
        for event in told:
            live.notice(event)
    return console.file.getvalue().splitlines()


def test_the_line_has_all_that_is_known() -> None:
    progress = Progress()
    progress.plan(PLANNED)
    progress.measure(evaluated(0, 0.0, 0.0))
    for number in range(1, 43):
        progress.advance(step(number, loss=0.31))
    progress.measure(evaluated(42, 0.87, 0.03))
    # 58 steps of 2 s, and 10 s of evaluations spread over the 42 steps done.
    assert "  ".join(progress.parts()) == (
        "step 42/100  loss 0.31  tok/s 250  eta 2m10s  mem 2.1 GiB  "
        "tickets 87.0 % (base 0.0 %)  forgetting KL 0.03"
    )


def test_the_line_has_the_first_figures_of_the_method() -> None:
    progress = Progress()
    figures = {"margin": 0.5, "chosen_log_prob": -3.0, "third": 1.0}
    progress.advance(replace(step(1), figures=figures))
    progress.advance(replace(step(2), figures={**figures, "margin": 9.0}, rejected=True))
    assert progress.parts()[1:4] == ["loss 1", "margin 0.5", "chosen log prob -3"]
    assert "third" not in "  ".join(progress.parts())


def test_an_evaluation_tells_held_out_figures() -> None:
    found = replace(evaluated(5, 0.5, 0.1), figures={"rejected_log_prob": -12.5})
    assert "held-out loss 0.500  rejected log prob -12  tickets 50.0 %" in evaluation(found, {})


def test_nothing_is_made_up_before_the_first_step() -> None:
    progress = Progress()
    assert progress.parts() == ["step 0"]
    assert (progress.tokens_per_second, progress.seconds_left) == (None, None)


def test_the_loss_of_a_rejected_step_is_not_counted() -> None:
    progress = Progress()
    progress.advance(step(1, loss=2.0))
    progress.advance(step(2, loss=float("nan"), rejected=True))
    progress.advance(step(3, loss=2.0))
    assert "loss 2" in progress.parts()


def test_the_smoothed_loss_follows_and_is_unbiased_from_the_first_step() -> None:
    progress = Progress()
    progress.advance(step(1, loss=4.0))
    assert "loss 4" in progress.parts()
    for number in range(2, 80):
        progress.advance(step(number, loss=1.0))
    assert "loss 1" in progress.parts()


def test_a_log_has_ten_lines_about_steps_and_each_other_event() -> None:
    lines = plain(events())
    assert len([line for line in lines if line.startswith("step ")]) == 11
    assert lines[0] == "loading the base"
    assert lines[1] == (
        "1,000 rows, 200 rows held out, 122.6 k tokens (21.4 k trained) an epoch, 125 steps; "
        "4.88 M parameters, fp32 on cpu"
    )
    assert "measured base  held-out loss 2.416  tickets 0.0 %  (12s)" in lines
    assert "saved step 25  best so far" in lines
    assert "saved step 125" in lines
    assert lines[-1] == "succeeded at step 125"
    assert (
        "measured step 100  held-out loss 0.227  tickets 91.5 % (base 0.0 %)  "
        "forgetting KL 0.038  (12s)"
    ) in lines


def test_a_rejected_step_is_a_warning_that_names_its_rows() -> None:
    assert plain([step(7, rejected=True)]) == [
        "warning: step 7 rejected (loss or gradient not finite, nothing changed); its rows: "
        "data/a.jsonl:1, data/a.jsonl:2, data/a.jsonl:3, and 5 more rows"
    ]
    assert rejection(Step(7, 0, 0, 0, 0, 0, 0, 0, 0, True)).endswith("nothing changed)")


def test_warnings_and_failure() -> None:
    lines = plain([Warned("a \x1b[31mb [red]c"), step(1), Finished("failed", "why", 3)])
    assert lines[0] == "warning: a ␛[31mb [red]c"
    assert lines[-1] == "failed at step 1"


def test_a_slow_run_is_not_silent_for_long() -> None:
    lines = plain([PLANNED, *(step(number, seconds=100.0) for number in range(1, 10))])
    assert [line.split()[1] for line in lines[1:]] == ["1/100", "5/100", "9/100"]


def test_a_resumed_run_says_so_and_knows_the_base(tmp_path: Path) -> None:
    earlier = Timeline.read(fake_run(tmp_path / "run", "killed").events)
    lines = plain(
        [Started(1, "0", resumed_from=50), PLANNED, step(51), evaluated(75, 0.9, 0.03)], earlier
    )
    assert lines[0] == "going on from step 50"
    assert lines[2].startswith("step 51/100  loss 1  tok/s 250  eta 1m38s")
    assert "tickets 90.0 % (base 0.0 %)" in lines[3]


def test_without_what_was_earlier_no_base_is_shown() -> None:
    assert "tickets 90.0 %  forgetting" in plain([evaluated(75, 0.9, 0.03)])[0]


@pytest.fixture
def terminal() -> Console:
    return Console(file=StringIO(), width=120, force_terminal=True, color_system=None)


def line(live: Live) -> str:
    console = Console(file=StringIO(), width=120)
    console.print(live.line())
    return console.file.getvalue().rstrip()


def test_the_live_line_shows_the_phase_then_the_steps(terminal: Console) -> None:
    with Live(terminal) as live:
        live.notice(Phase("loading the base"))
        assert "loading the base 0s" in line(live)
        live.notice(PLANNED)
        live.notice(step(50))
        assert "loading" not in line(live)
        assert "step 50/100  loss 1  tok/s 250" in line(live)
        live.notice(Phase("measuring step 50"))
        assert "measuring step 50 0s  step 50/100" in line(live)


def test_the_live_line_is_one_line_however_narrow() -> None:
    live = Live(Console(file=StringIO()))
    for event in events()[:40]:
        live.notice(event)
    console = Console(file=StringIO(), width=50)
    console.print(live.line())
    assert console.file.getvalue().count("\n") == 1


class Unseen(Live):
    """Draws nothing on the live line, so that only what stays above it is written."""

    def line(self) -> str:
        return ""


def test_a_terminal_keeps_evaluations_but_no_line_for_each_tenth(terminal: Console) -> None:
    with Unseen(terminal) as live:
        for event in [PLANNED, *map(step, range(1, 101)), evaluated(100, 0.9, 0.1)]:
            live.notice(event)
    text = terminal.file.getvalue()
    assert "measured step 100  held-out loss 0.500" in text
    assert "step 10/100" not in text


def test_the_display_ends_when_the_run_breaks(terminal: Console) -> None:
    live = Live(terminal)
    with pytest.raises(ValueError, match="broken"), live:
        raise ValueError("broken")
    live.notice(Saved(5, "x", best=False))
    assert terminal.file.getvalue().endswith("saved step 5\n")


def test_it_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with Live() as live:
        live.notice(Warned("look"))
    assert capsys.readouterr() == ("", "warning: look\n")
