"""The headline of a report: what came of the run, in sentences that need no other page."""

from collections.abc import Iterator
from dataclasses import dataclass
from shlex import quote
from typing import Literal

from tunesmith.runs.report.material import Material, Record
from tunesmith.runs.report.wording import count, figure, loss_unit, nats, percent, plural, points

Tone = Literal["good", "bad", "warn", "plain"]
"""How a figure or a sentence is to be taken."""

STATUS_TONES: dict[str, Tone] = {"succeeded": "good", "failed": "bad", "running": "plain"}


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the headline."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The headline.

    Attributes:
        status: succeeded, failed or interrupted; without `report.json` also running or stopped.
        tone: How the status is to be taken.
        sentences: In the order they are read; never empty.
        way_on: The command that goes on with the run; empty when it succeeded or still goes on.
    """

    status: str
    tone: Tone
    sentences: tuple[Sentence, ...]
    way_on: str

    @classmethod
    def of(cls, material: Material) -> "Verdict":
        """The verdict over a run."""
        report = material.report
        status = report["status"]
        sentences = [*_ending(material), *measured(report)]
        if not sentences:
            text = "Training finished; nothing was measured (no task, held-out rows or probe)."
            sentences = [Sentence(text)]
        tone = STATUS_TONES.get(status, "warn")
        way_on = "" if status in ("succeeded", "running") else command("resume", material)
        return cls(status, tone, tuple(sentences), way_on)


def command(verb: str, material: Material, rest: str = "") -> str:
    """A command line on this run, quoted for a shell."""
    return f"tunesmith {verb} {quote(str(material.path))}{rest and ' ' + rest}"


def measured(report: Record) -> Iterator[Sentence]:
    """A sentence for each thing that was measured before and after."""
    tasks = report.get("tasks") or [report.get("task")]
    yield from (task_sentence(task) for task in tasks if task)
    if report.get("eval_loss"):
        yield loss_sentence(report["eval_loss"])
    if report.get("forgetting"):
        yield forgetting_sentence(report["forgetting"])


def gain_tone(interval: list[float] | None, better: int = 1) -> Tone:
    """Good or bad when the interval of a change leaves out zero, else plain.

    Args:
        interval: Lowest and highest value of the change; None when it was not computed.
        better: 1 when a rise is good, -1 when a fall is.
    """
    if not interval or interval[0] <= 0 <= interval[1]:
        return "plain"
    return "good" if interval[0] * better > 0 else "bad"


def task_sentence(task: Record) -> Sentence:
    """What became of the score of one task."""
    rows = plural(task["n"], "held-out row")
    before, after, gain = task["before"], task["after"], task.get("gain")
    if before is None or after is None:
        value = percent(before if after is None else after)
        when = "before training" if after is None else "after training"
        return Sentence(f"Score on {task['name']} was {value} {when}, on {rows}.")
    gain = after - before if gain is None else gain
    interval = task.get("interval")
    tone = gain_tone(interval)
    verb = {"good": "rose", "bad": "fell"}.get(tone, "went")
    text = f"Score on {task['name']} {verb} from {percent(before)} to {percent(after)} on {rows}"
    word = "loss" if tone == "bad" else "gain"
    low, high = interval or (None, None)
    if tone == "bad" and interval:
        gain, low, high = -gain, -interval[1], -interval[0]
    between = f", 95 % interval {points(low)} to {points(high)}" if interval else ""
    unclear = " That is no clear change." if interval and tone == "plain" else ""
    return Sentence(f"{text} ({word} {points(gain)} points{between}).{unclear}", tone)


def loss_sentence(loss: Record) -> Sentence:
    """What became of the loss on held-out rows."""
    before, after, interval = loss["before"], loss["after"], loss.get("interval")
    unit = loss_unit(loss)
    if before is None or after is None:
        return Sentence(f"Held-out loss was {nats(before if after is None else after)} {unit}.")
    tone = gain_tone(interval, better=-1)
    verb = {"good": "fell", "bad": "rose"}.get(tone, "went")
    text = f"Held-out loss {verb} from {nats(before)} to {nats(after)} {unit}"
    if not interval:
        return Sentence(f"{text}.")
    between = f"change {nats(after - before, signed=True)}, 95 % interval "
    between += f"{nats(interval[0], signed=True)} to {nats(interval[1], signed=True)}"
    unclear = " That is no clear change." if tone == "plain" else ""
    return Sentence(f"{text} ({between}).{unclear}", tone)


def forgetting_sentence(forgetting: Record) -> Sentence:
    """How far the model moved from its base, and whether that was allowed."""
    text = f"KL from the base {figure(forgetting['kl'])} nats per token"
    budget, within = forgetting.get("budget"), forgetting.get("within_budget")
    if budget is None:
        return Sentence(f"{text}; the recipe set no budget for it.")
    if within is None:
        within = forgetting["kl"] is not None and forgetting["kl"] <= budget
    place = "within" if within else "over"
    return Sentence(f"{text}, {place} the budget of {figure(budget)}.", "good" if within else "bad")


def _ending(material: Material) -> Iterator[Sentence]:
    """How a run that did not succeed ended, and what is saved of it."""
    status, reason = material.report["status"], material.report.get("reason", "")
    if status == "succeeded":
        return
    done = material.report.get("train", {}).get("steps") or 0
    planned = material.timeline.planned
    of_all = f" of {count(planned[-1]['num_steps'])}" if planned else ""
    verbs = {
        "failed": "failed",
        "interrupted": "was interrupted",
        "stopped": "was killed",
        "running": "is going on",
    }
    where = f" after step {count(done)}{of_all}" if done else " before its first step"
    because = f": {reason}" if reason else "."
    yield Sentence(
        f"The run {verbs.get(status, status)}{where}{because}", STATUS_TONES.get(status, "warn")
    )
    last = (material.report.get("checkpoint") or {}).get("last_step")
    saved = f"Everything up to step {count(last)} is saved." if last else "No checkpoint was saved."
    yield Sentence(saved)
