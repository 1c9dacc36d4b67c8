"""What `tunesmith plan` prints: everything that is known of a run before its first step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from tunesmith.runs.report.wording import (
    count,
    duration,
    gib,
    percent,
    plural,
    printable,
    short_count,
    small_percent,
)

GIB = 2**30


class Checked(Protocol):
    """A check of the token contract, as `tunesmith.data.contract` makes it."""

    name: str
    ok: bool
    figure: object
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """What is known of a run before its first step.

    Attributes:
        recipe: Path of the recipe.
        base: Id of the base.
        base_parameters: Its parameters.
        rows_train: Rows to train on.
        rows_eval: Held-out rows.
        tokens: Tokens of one epoch.
        tokens_trained: Those of them that are targets of the loss.
        checks: The token contract.
        num_steps: Optimizer steps.
        num_epochs: Epochs, with fraction.
        learning_rate: The peak, and where it comes from; empty when unknown.
        precision: Type the arithmetic is done in.
        device: Where.
        adapter: Its name.
        targets: Modules it trains, or patterns of them.
        trainable_parameters: Parameters that are trained.
        worst_batch_tokens: Tokens of the most expensive batch; None when the fit was not measured.
        peak_memory_gib: Measured on that batch; None likewise.
        available_memory_gib: What the device has; None when unknown.
        seconds_per_step: Measured likewise; None likewise.
        predicted_seconds: Time of the training, without evaluations; None likewise.
        evaluation_seconds: Time of all evaluations; None likewise.
        reference_seconds: Time of asking the untrained model about each answer; 0 without.
        sampling_seconds: Time of drawing answers; None likewise, or where none are drawn.
        passes_per_step: Forward passes of a step, on average; None likewise.
        padding: Share of the computed tokens that are padding.
        imbalance: What the costliest pass of a step takes over the mean, as a share.
        disk_needed_bytes: Room for checkpoints and the export; None when unknown.
        disk_free_bytes: What is free where the run will be; None likewise.
        changes: Overrides that would make it fit, the peak with each, and whether that fits.
        warnings: What a person should know before starting.
    """

    recipe: str
    base: str
    base_parameters: int
    rows_train: int
    rows_eval: int
    tokens: int
    tokens_trained: int
    checks: Sequence[Checked]
    num_steps: int
    num_epochs: float
    precision: str
    device: str
    adapter: str
    targets: Sequence[str]
    trainable_parameters: int
    learning_rate: str = ""
    worst_batch_tokens: int | None = None
    peak_memory_gib: float | None = None
    available_memory_gib: float | None = None
    seconds_per_step: float | None = None
    predicted_seconds: float | None = None
    evaluation_seconds: float | None = None
    reference_seconds: float = 0.0
    sampling_seconds: float | None = None
    passes_per_step: float | None = None
    padding: float = 0.0
    imbalance: float = 0.0
    disk_needed_bytes: int | None = None
    disk_free_bytes: int | None = None
    changes: Sequence[tuple[str, float, bool]] = ()
    warnings: Sequence[str] = ()

    @property
    def fits(self) -> bool | None:
        """Whether the measured peak is within what the device has; None when unknown."""
        if self.peak_memory_gib is None or self.available_memory_gib is None:
            return None
        return self.peak_memory_gib <= self.available_memory_gib

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text.assemble(("Plan of ", "dim"), (printable(self.recipe), "bold"), "\n")
        yield plan_facts(self)
        if self.checks:
            yield Text("\nToken contract", "bold")
            yield check_table(self.checks)
        for overrides, peak, fits in self.changes:
            yield change_line(overrides, peak, fits)
        for warning in self.warnings:
            yield Text(f"\nwarning: {printable(warning)}", "yellow")


def plan_facts(plan: PlanView) -> Table:
    """The names and figures of a plan; what was not measured is left out."""
    share = plan.tokens_trained / plan.tokens if plan.tokens else 0.0
    held_out = f", {plural(plan.rows_eval, 'row')} held out" if plan.rows_eval else ""
    trained = plan.trainable_parameters / plan.base_parameters if plan.base_parameters else None
    epochs = plural(round(plan.num_epochs, 2), "epoch") if plan.num_epochs.is_integer() else ""
    facts: list[tuple[str, str | Text]] = [
        ("base", f"{plan.base}, {short_count(plan.base_parameters)} parameters"),
        ("data", f"{plural(plan.rows_train, 'row')} to train on{held_out}"),
        ("tokens", f"{count(plan.tokens)} an epoch, {percent(share)} of them trained"),
        ("steps", f"{count(plan.num_steps)} ({epochs or f'{plan.num_epochs:.2f} epochs'})"),
        ("learning rate", plan.learning_rate),
        ("arithmetic", f"{plan.precision} on {plan.device}"),
        (
            "adapter",
            f"{plan.adapter}, {count(plan.trainable_parameters)} parameters trained "
            f"({small_percent(trained)} of the base)",
        ),
        ("modules", ", ".join(plan.targets)),
    ]
    facts += _measured(plan)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        if value:
            grid.add_row(name, value if isinstance(value, Text) else Text(printable(value)))
    return grid


def _measured(plan: PlanView) -> list[tuple[str, str | Text]]:
    """What passes and steps that were really run say."""
    facts: list[tuple[str, str | Text]] = []
    if plan.passes_per_step is not None:
        passes = (
            f"{plan.passes_per_step:.1f} a step, {percent(plan.padding)} padding, "
            f"the largest {percent(plan.imbalance)} over the mean"
        )
        facts.append(("passes", passes))
    if plan.worst_batch_tokens is not None:
        facts.append(("largest batch", plural(plan.worst_batch_tokens, "token")))
    if plan.peak_memory_gib is not None:
        facts.append(("memory", _memory(plan)))
    if plan.disk_needed_bytes is not None:
        facts.append(("disk", _disk(plan)))
    if plan.seconds_per_step is not None:
        facts.append(("pace", f"{duration(plan.seconds_per_step)} a step, measured"))
    if plan.predicted_seconds is not None:
        evaluating = ", evaluations besides"
        if plan.evaluation_seconds is not None:
            evaluating = f", and about {duration(plan.evaluation_seconds)} of evaluation"
        drawing = ""
        if plan.sampling_seconds is not None:
            drawing = f", {duration(plan.sampling_seconds)} of drawing answers"
        time = f"about {duration(plan.predicted_seconds)} of training{drawing}{evaluating}"
        if plan.reference_seconds:
            time += f", after {duration(plan.reference_seconds)} of asking the untrained model"
        facts.append(("time", time))
    return facts


def change_line(overrides: str, peak: float, fits: bool) -> Text:
    """A change of the recipe, and what it leads to."""
    says = "it would fit" if fits else "even so it would not fit, at its peak"
    line = Text("\nhint: ", "yellow").append(f"with {printable(overrides)} {says}: {gib(peak)}")
    return line


def _memory(plan: PlanView) -> Text:
    """The measured peak beside what there is, and whether it fits."""
    text = Text(f"{gib(plan.peak_memory_gib)} at its peak, measured")
    if plan.fits is None:
        return text
    text.append(f", of {gib(plan.available_memory_gib)}: ")
    return text.append(*("it fits", "green") if plan.fits else ("it does not fit", "bold red"))


def _disk(plan: PlanView) -> Text:
    """The room that checkpoints and the export take beside what is free."""
    needed, free = plan.disk_needed_bytes, plan.disk_free_bytes
    text = Text(f"{gib(needed / GIB)} for checkpoints and the export, of {gib(free / GIB)} free: ")
    return text.append(*("it fits", "green") if needed <= free else ("too little", "bold red"))


def check_table(checks: Sequence[Checked]) -> Table:
    """The token contract: each check with ok or not ok."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("not ok", "bold red")
        figure = f"{check.figure:.4g}" if isinstance(check.figure, float) else str(check.figure)
        cells = (check.name, figure, check.says)
        name, shown, says = (Text(printable(cell)) for cell in cells)
        table.add_row(mark, name, shown, says)
    return table
