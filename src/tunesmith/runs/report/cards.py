"""The handful of figures that are read first."""

from dataclasses import dataclass

from tunesmith.runs.report.material import Record
from tunesmith.runs.report.verdict import Tone, forgetting_sentence, gain_tone
from tunesmith.runs.report.wording import (
    MISSING,
    count,
    duration,
    figure,
    gib,
    loss_unit,
    nats,
    percent,
    points,
    short_count,
    small_percent,
)


@dataclass(frozen=True, slots=True)
class Card:
    """One figure.

    Attributes:
        label: What it is.
        value: The figure with its unit.
        note: What to compare it with; may be empty.
        tone: How it is to be taken.
    """

    label: str
    value: str
    note: str = ""
    tone: Tone = "plain"


def cards(report: Record) -> list[Card]:
    """The cards of a report, without those that have no figure."""
    made = [
        _score(report.get("task")),
        _loss(report.get("eval_loss")),
        _forgetting(report.get("forgetting")),
        *_training(report.get("train") or {}),
        _parameters(report.get("adapter") or {}),
    ]
    return [card for card in made if card and card.value != MISSING]


def _score(task: Record | None) -> Card | None:
    if not task:
        return None
    if task["after"] is None:
        return Card(f"Score on {task['name']}", percent(task["before"]), "before training")
    note = f"from {percent(task['before'])}" if task["before"] is not None else ""
    if task.get("gain") is not None:
        note += f", {points(task['gain'], signed=True)} points"
    tone = gain_tone(task.get("interval"))
    return Card(f"Score on {task['name']}", percent(task["after"]), note, tone)


def _loss(loss: Record | None) -> Card | None:
    if not loss:
        return None
    unit = loss_unit(loss)
    note = unit if loss["before"] is None else f"from {nats(loss['before'])}, {unit}"
    return Card("Held-out loss", nats(loss["after"]), note, gain_tone(loss.get("interval"), -1))


def _forgetting(forgetting: Record | None) -> Card | None:
    if not forgetting:
        return None
    budget = forgetting.get("budget")
    note = "nats per token" if budget is None else f"budget {figure(budget)} nats per token"
    tone = forgetting_sentence(forgetting).tone
    return Card("KL from the base", figure(forgetting["kl"]), note, tone)


def _training(train: Record) -> list[Card]:
    speed = train.get("tokens_per_second")
    pace = f"{count(speed)} tokens per second" if speed else ""
    steps = f"{count(train.get('steps'))} steps"
    memory = train.get("device") or ""
    return [
        Card("Training time", duration(train.get("seconds")), f"{steps}, {pace}".rstrip(", ")),
        Card("Peak memory", gib(train.get("peak_memory_gib")), memory),
    ]


def _parameters(adapter: Record) -> Card:
    share = adapter.get("share")
    note = "" if share is None else f"{small_percent(share)} of the base, {adapter['name']}"
    return Card("Trained parameters", short_count(adapter.get("trainable_parameters")), note)
