"""A run while it goes on, on standard error: one live line on a terminal, plain lines elsewhere.

It is an observer: it gets the run's events and nothing else, so a test needs no run.
"""

from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live as Display
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tunesmith.cli.progress import Progress, evaluation
from tunesmith.runs.events import (
    Evaluated,
    Event,
    Finished,
    Phase,
    Planned,
    Saved,
    Started,
    Step,
    Warned,
    WentBack,
)
from tunesmith.runs.report.wording import count, duration, plural, printable, short_count
from tunesmith.runs.timeline import Timeline

MAX_ROWS_NAMED = 3
"""Rows of a rejected step that are named; the others are counted."""

MAX_SILENT_SECONDS = 300
"""A plain log says something at least this often, however long a step takes."""

NUM_PLAIN_LINES = 10
"""Lines about steps in a plain log, evenly spread over the run."""

MIN_SHOWN_SECONDS = 0.1
"""A phase that took less is not worth a line."""

TRAINING = "training"
"""The phase whose progress is the steps themselves."""


class Live:
    """An observer that shows a run, and the context it is shown in.

    Args:
        console: Where to write; standard error by default.
        earlier: What happened before a resume, so that the base's scores are known.
    """

    def __init__(self, console: Console | None = None, earlier: Timeline | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.progress = Progress()
        for record in earlier.evaluations if earlier else ():
            if record["step"] == 0:
                self.progress.base = {task["name"]: task["score"] for task in record["tasks"]}
        self._phase: str | None = None
        self._phase_began = 0.0
        self._silent_seconds = 0.0
        self._first_step: int | None = None
        self._spinner = Spinner("dots")
        self._display: Display | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._display = Display(
                get_renderable=self.line,
                console=self.console,
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,
            )
            self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None

    def notice(self, event: Event) -> None:
        """Shows one event."""
        match event:
            case Started():
                self._started(event)
            case Planned():
                self._planned(event)
            case Phase():
                self._enter_phase(event.name)
            case Step():
                self._step(event)
            case WentBack():
                self.progress.step = event.to
                self._say(turn(event), "yellow")
            case Evaluated():
                self._phase = None  # its line tells the time as well
                self.progress.measure(event)
                self._say(evaluation(event, self.progress.base))
            case Saved():
                best = "  best so far" if event.best else ""
                self._say(f"saved step {count(event.step)}{best}")
            case Warned():
                self._say(f"warning: {event.message}", "yellow")
            case Finished():
                self._finished(event)

    def line(self) -> RenderableType:
        """The live line: what goes on and how long already, then the figures that are known."""
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, width=1)
        cells: list[RenderableType] = [self._spinner]
        if self.progress.step and self.progress.num_steps:
            bar = ProgressBar(self.progress.num_steps, self.progress.step, width=16)
            grid.add_column(no_wrap=True)
            cells.append(bar)
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        text = Text(no_wrap=True, overflow="ellipsis")
        if self._phase and self._phase != TRAINING:
            took = duration(round(monotonic() - self._phase_began))
            text.append(f"{printable(self._phase)} {took}", "bold")
        if self.progress.step:
            text.append("  " if text else "").append(printable("  ".join(self.progress.parts())))
        grid.add_row(*cells, text)
        grid.expand = True
        return grid

    def _started(self, started: Started) -> None:
        self._first_step = None
        if started.resumed_from is not None:
            self.progress.step = started.resumed_from
            self._say(f"going on from step {count(started.resumed_from)}", "bold")

    def _planned(self, planned: Planned) -> None:
        self.progress.plan(planned)
        eval_rows = f", {plural(planned.rows_eval, 'row')} held out" if planned.rows_eval else ""
        self._say(
            f"{plural(planned.rows_train, 'row')}{eval_rows}, "
            f"{short_count(planned.tokens)} tokens "
            f"({short_count(planned.tokens_trained)} trained) an epoch, "
            f"{plural(planned.num_steps, 'step')}; "
            f"{short_count(planned.trainable_parameters)} parameters, "
            f"{planned.precision} on {planned.device}"
        )

    def _enter_phase(self, name: str) -> None:
        self._leave_phase()
        self._phase, self._phase_began = name, monotonic()
        if self._display is None:
            self._say(name)
        else:
            self._display.refresh()

    def _leave_phase(self) -> None:
        """On a terminal a finished phase stays above the live line, with the time it took."""
        seconds = monotonic() - self._phase_began
        named = self._phase not in (None, TRAINING) and seconds > MIN_SHOWN_SECONDS
        if named and self._display is not None:
            self._say(f"{self._phase}  {duration(seconds)}", "dim")
        self._phase = None

    def _step(self, step: Step) -> None:
        self._leave_phase()
        self.progress.advance(step)
        if step.rejected:
            self._say(rejection(step), "yellow")
        elif self._display is None and self._is_due(step):
            self._say("  ".join(self.progress.parts()))

    def _is_due(self, step: Step) -> bool:
        """Whether a plain log says something about this step."""
        self._silent_seconds += step.seconds
        first = self._first_step is None
        self._first_step = self._first_step or step.step
        total = self.progress.num_steps or 100
        tenth = step.step * NUM_PLAIN_LINES // total
        due = first or tenth > (step.step - 1) * NUM_PLAIN_LINES // total
        due = due or self._silent_seconds > MAX_SILENT_SECONDS
        if due:
            self._silent_seconds = 0.0
        return due

    def _finished(self, finished: Finished) -> None:
        self._leave_phase()
        style = {"succeeded": "bold green", "failed": "bold red"}.get(finished.status, "yellow")
        # Its reason is the error message, which the command prints last.
        self._say(f"{finished.status} at step {count(self.progress.step)}", style)

    def _say(self, text: str, style: str = "") -> None:
        """Prints a line above the live one; a log's line is never broken."""
        soft = self._display is None
        self.console.print(Text(printable(text), style), soft_wrap=soft, highlight=False)


def rejection(step: Step) -> str:
    """What a rejected step says: its rows, by file and number."""
    named = [f"{source}:{number}" for source, number in step.rows[:MAX_ROWS_NAMED]]
    more = len(step.rows) - len(named)
    if more:
        named.append(f"and {plural(more, 'more row')}")
    rows = f"; its rows: {', '.join(named)}" if named else ""
    why = step.reason or "loss or gradient not finite"
    return f"warning: step {count(step.step)} rejected ({why}, nothing changed){rows}"


def turn(event: WentBack) -> str:
    """What is said when the run goes back."""
    rows = f"; {plural(len(event.rows), 'row')} left out from now on" if event.rows else ""
    way = f"going back from step {count(event.step)} to {count(event.to)}"
    return f"warning: {way}: {event.reason}{rows}"
