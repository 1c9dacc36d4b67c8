"""What was measured: before and after, and on the way."""

from math import exp, inf
from typing import Any

from tunesmith.runs.report.chapter import Cell, Chapter
from tunesmith.runs.report.material import Material, Record
from tunesmith.runs.report.wording import MISSING, count, figure, loss_unit, nats, percent, points


def results(report: Record) -> Chapter | None:
    """What was measured before and after."""
    rows = [_task_row(task) for task in report.get("tasks") or [report.get("task")] if task]
    if loss := report.get("eval_loss"):
        rows.append(_loss_row(f"held-out loss, {loss_unit(loss)}", loss))
        if loss.get("per") == "token":
            rows.append(_perplexity_row(loss))
    rows += [_figure_row(each) for each in report.get("heldout_figures") or ()]
    if forgetting := report.get("forgetting"):
        budget = forgetting.get("budget")
        name = "KL from the base" + ("" if budget is None else f" (budget {figure(budget)})")
        kl, between = figure(forgetting["kl"]), _between(forgetting.get("kl_interval"), figure)
        rows.append((name, "0", kl, f"+{kl}", between))
        rows.append(_loss_row("loss on the base's answers", forgetting, "loss_"))
    lead = (
        "The same rows before and after training. An interval that leaves out 0 is a real change. "
        "The last two lines ask what was forgotten, on general prompts that have nothing to do "
        "with the task."
        if report.get("forgetting")
        else "The same rows before and after training. An interval that leaves out 0 is a real "
        "change."
    )
    columns = ("measure", "before", "after", "change", "95 % interval")
    return Chapter("Before and after", lead, columns, tuple(rows)) if rows else None


def _task_row(task: Record) -> tuple[Cell, ...]:
    name = f"{task['name']} ({count(task['n'])} rows)"
    gain = points(task.get("gain"), signed=True)
    between = _between(task.get("interval"), lambda share: points(share, signed=True))
    return name, percent(task["before"]), percent(task["after"]), gain, between


def _loss_row(name: str, loss: Record, prefix: str = "") -> tuple[Cell, ...]:
    before, after = loss.get(f"{prefix}before"), loss.get(f"{prefix}after")
    change = None if before is None or after is None else after - before
    between = _between(loss.get("interval"), lambda value: nats(value, signed=True))
    return name, nats(before), nats(after), nats(change, signed=True), between


def _perplexity_row(loss: Record) -> tuple[Cell, ...]:
    """The same loss as a perplexity, e to its power; the change is a factor."""
    before, after = loss["before"], loss["after"]
    change = None if before is None or after is None else after - before
    factors = _between(loss.get("interval"), lambda value: f"x {_power(value)}")
    return "held-out perplexity", _power(before), _power(after), f"x {_power(change)}", factors


def _power(value: float | None) -> str:
    return MISSING if value is None else figure(exp(value) if value < 700 else inf, digits=3)


def _figure_row(found: Record) -> tuple[Cell, ...]:
    """A figure of the method, in its own unit."""
    name = f"held-out {found['name'].replace('_', ' ')} ({count(found['n'])} rows)"
    before, after = figure(found["before"]), figure(found["after"])
    return name, before, after, _signed(found["gain"]), _between(found["interval"], _signed)


def _signed(value: float) -> str:
    """A change, with its sign."""
    return figure(value) if value < 0 else f"+{figure(value)}"


def _between(interval: list[float] | None, written: Any) -> str:
    return f"{written(interval[0])} to {written(interval[1])}" if interval else ""


def evaluations(material: Material) -> Chapter | None:
    """Each evaluation of the run; step 0 is the base."""
    records = material.timeline.evaluations
    names = list(dict.fromkeys(task["name"] for record in records for task in record["tasks"]))
    best = (material.report.get("checkpoint") or {}).get("best_step")
    rows = tuple(_evaluation_row(record, names, best) for record in records)
    columns = ("step", "held-out loss", *names, "KL from the base", "")
    lead = "Step 0 is the base before training."
    return Chapter("Evaluations", lead, columns, rows) if rows else None


def _evaluation_row(record: Record, names: list[str], best: int | None) -> tuple[Cell, ...]:
    scores = {task["name"]: task["score"] for task in record["tasks"]}
    forgetting = record.get("forgetting")
    kl = figure(forgetting["kl"]) if forgetting else MISSING
    note = "best" if best is not None and record["step"] == best else ""
    tasks = (percent(scores.get(name)) for name in names)
    return count(record["step"]), nats(record.get("loss")), *tasks, kl, note
