"""Puts the report together: the figures of `report.json`, and rows before and after."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from tunesmith.api.session import Session
from tunesmith.api.sources import sources
from tunesmith.data.system import common_system
from tunesmith.engine.best import within
from tunesmith.evaluate.statistics import paired_bootstrap
from tunesmith.export.artefact import Artefact
from tunesmith.export.certificate import Certificate
from tunesmith.methods import base as methods
from tunesmith.models.heads import LOGITS
from tunesmith.models.quantize import num_parameters
from tunesmith.runs.events import now
from tunesmith.runs.report.guard import guard
from tunesmith.runs.report.material import read_proof
from tunesmith.runs.timeline import Timeline

Details = dict[str, Any]


class Averaged(Protocol):
    """An average of weights that was measured, as `averages` makes it."""

    name: str
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was chosen to be exported.

    Attributes:
        weights: A step, or the name of an average; None where nothing is within the budget.
        step: The best checkpoint; the last one, where there is none.
        averages: What was measured besides checkpoints.
    """

    weights: int | str | None
    step: int
    averages: Sequence[Averaged] = ()

    @property
    def measured(self) -> int | str:
        """The step, or the average, where "after" is measured."""
        return self.step if self.weights is None else self.weights

    def __str__(self) -> str:
        return self.weights if isinstance(self.weights, str) else f"step {self.step}"


def assemble(
    session: Session,
    chosen: Chosen,
    artefact: Artefact | None,
    certificate: Certificate | None,
    outcome: tuple[str, str],
) -> dict[str, Any]:
    """The whole of `report.json`.

    Args:
        session: The run at its end.
        chosen: The exported weights; "after" is measured there.
        artefact: What was exported, or None when the run failed.
        certificate: Its proof, or None.
        outcome: Status and reason.
    """
    timeline = Timeline.read(session.folder.events)
    before, after = _details(session, 0), _details(session, chosen.measured)
    tasks = _tasks(before, after)
    first = next(iter(session.recipe.evaluate.tasks), None)
    attached = session.learner.attached
    return {
        "status": outcome[0],
        "reason": outcome[1],
        "name": session.folder.name,
        "started": timeline.started[0]["time"],
        "finished": now(),
        "base": {
            **session.lock["base"],
            "parameters": num_parameters(attached.model)
            - (0 if session.learner.adapter.FOLDER == "model" else attached.num_trained),
        },
        "data": _data(session),
        "sources": sources(session, chosen.measured),
        "method": {
            "name": session.recipe.method.name,
            "gives": attached.head.gives if attached.head else LOGITS,
        },
        "contract": [
            {"check": c.name, "ok": c.ok, "figure": c.figure, "says": c.says}
            for c in session.rows.checks
        ],
        "task": next((task for task in tasks if first and task["name"] == first.name), None),
        "tasks": tasks,
        "eval_loss": _heldout(session, before, after),
        "heldout_figures": _figures(before, after),
        "heldout_overall": _overall(before, after),
        "forgetting": _forgetting(session, chosen.measured, before, after),
        "skipped": [
            {"step": each["step"], "measures": each["skipped"]}
            for each in timeline.evaluations
            if each.get("skipped")
        ],
        "train": _train(session, timeline),
        "guard": guard(timeline),
        "adapter": {
            "name": session.recipe.adapter.name,
            "trainable_parameters": attached.num_trained,
            "share": attached.share,
            "targeted": [f"{kind} x{count}" for kind, count in attached.targeted.items()],
            "untargeted": [f"{kind} x{count}" for kind, count in attached.untargeted.items()],
        },
        "fit": asdict(session.fit),
        "checkpoint": {
            "best_step": chosen.step,
            "last_step": session.parts.loader.num_steps,
            "exported": artefact and str(chosen),
            "averages": [_average(session, each) for each in chosen.averages],
        },
        "artefact": artefact and {**asdict(artefact), "path": artefact.path.name},
        "certificate": certificate and asdict(certificate),
        "proof": read_proof(session.folder),
        "timings": _timings(timeline),
        "warnings": [record["message"] for record in timeline.warnings],
    }


def _average(session: Session, average: Averaged) -> Details:
    """What was found of an average, beside the checkpoints."""
    found = session.evaluator.averages[average.name]
    return {
        "name": average.name,
        "steps": list(average.steps),
        "score": found.tasks[0].score if found.tasks else None,
        "loss": found.loss,
        "kl": found.forgetting and found.forgetting.kl,
    }


def samples(session: Session, chosen: Chosen) -> list[dict[str, Any]]:
    """Some rows of the first task, answered before and after; one that is still wrong if any is."""
    before, after = _details(session, 0), _details(session, chosen.measured)
    if not session.evaluator.tasks:
        return []
    task = session.evaluator.tasks[0]
    pairs = [pair for pair in _pairs(before, after) if pair[0]["name"] == task.name]
    if not pairs:
        return []
    first, second = pairs[0]
    return [
        {
            "prompt": task.asked[i],
            "expected": task.references[i],
            "before": first["outputs"][i],
            "after": second["outputs"][i],
            "score_before": first["scores"][i],
            "score_after": second["scores"][i],
        }
        for i in _shown(second["scores"], session.recipe.evaluate.samples)
    ]


def _shown(scores: list[float], count: int) -> list[int]:
    """Rows to show: the first ones, with room kept for one that is still wrong if there is any."""
    chosen = list(range(min(count, len(scores))))
    wrong = [i for i, score in enumerate(scores) if score < 1.0]
    if chosen and wrong and not set(wrong) & set(chosen):
        chosen[-1] = wrong[0]
    return chosen


def _details(session: Session, which: int | str) -> Details:
    path = session.evaluator.details_path(which)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _tasks(before: Details, after: Details) -> list[dict[str, Any]]:
    tasks = []
    for first, second in _pairs(before, after):
        old, new = np.array(first["scores"]), np.array(second["scores"])
        interval = paired_bootstrap(old, new)
        tasks.append(
            {
                "name": first["name"],
                "n": len(old),
                "before": float(old.mean()),
                "after": float(new.mean()),
                "gain": float(new.mean() - old.mean()),
                "interval": [interval.low, interval.high],
                "ungraded": second["failures"],
            }
        )
    return tasks


def _pairs(before: Details, after: Details) -> list[tuple[Details, Details]]:
    """Each task that was measured both times: one that failed is missing there."""
    old = {task["name"]: task for task in before.get("tasks", [])}
    return [(old[task["name"]], task) for task in after.get("tasks", []) if task["name"] in old]


def _heldout(session: Session, before: Details, after: Details) -> dict[str, Any] | None:
    """Loss of the held-out rows, and whether it is that of a token or a number of a whole row."""
    if "heldout" not in before or "heldout" not in after:
        return None
    old, new = before["heldout"], after["heldout"]
    interval = paired_bootstrap(old["sums"], new["sums"], counts=old["counts"])
    tokens = sum(old["counts"])
    return {
        "before": sum(old["sums"]) / tokens,
        "after": sum(new["sums"]) / tokens,
        "interval": [interval.low, interval.high],
        "per": "row" if hasattr(methods.load(session.recipe.method.name), "measure") else "token",
    }


def _figures(before: Details, after: Details) -> list[dict[str, Any]]:
    """What the method measures of held-out rows besides the loss, each row with itself."""
    old, new = (each.get("heldout", {}).get("figures", {}) for each in (before, after))
    found = []
    for name in (name for name in new if name in old):
        interval = paired_bootstrap(old[name], new[name])
        found.append(
            {
                "name": name,
                "n": len(new[name]),
                "before": float(np.mean(old[name])),
                "after": float(np.mean(new[name])),
                "gain": interval.mean,
                "interval": [interval.low, interval.high],
            }
        )
    return found


def _overall(before: Details, after: Details) -> dict[str, dict[str, float]]:
    """What the method makes of all held-out rows together, such as a macro F1."""
    old, new = (each.get("heldout", {}).get("overall", {}) for each in (before, after))
    return {name: {"before": old[name], "after": new[name]} for name in new if name in old}


def _forgetting(
    session: Session, which: int | str, before: Details, after: Details
) -> Details | None:
    """Of the first probe; prompts are resampled, their tokens stay together."""
    name = next(iter(session.recipe.evaluate.probes), None)
    if name not in before.get("probes", {}) or name not in after.get("probes", {}):
        return None
    old, new = before["probes"][name], after["probes"][name]
    counts, tokens = new["counts"], sum(new["counts"])
    kl = paired_bootstrap(old["kl_sums"], new["kl_sums"], counts=counts)
    change = paired_bootstrap(old["loss_sums"], new["loss_sums"], counts=counts)
    budget = session.recipe.evaluate.forgetting_budget
    evaluated = session.evaluator.found(which)
    return {
        "kl": sum(new["kl_sums"]) / tokens,
        "kl_interval": [kl.low, kl.high],
        "loss_before": sum(old["loss_sums"]) / tokens,
        "loss_after": sum(new["loss_sums"]) / tokens,
        "interval": [change.low, change.high],
        "budget": budget,
        "within_budget": None if budget is None else within(evaluated, budget),
    }


def _data(session: Session) -> dict[str, Any]:
    train, heldout = session.rows.train.counts, session.rows.heldout
    parts = [train] + ([heldout.counts] if heldout else [])
    return {
        "rows_train": session.rows.num_train,
        "rows_eval": len(heldout) if heldout else 0,
        "tokens": train.tokens,
        "tokens_trained": train.tokens_trained,
        "dropped": sum(part.dropped for part in parts),
        "truncated": sum(part.truncated for part in parts),
        "cuts": sum(part.cuts for part in parts),
        "skipped": sum(part.skipped for part in parts),
        "system": common_system(session.recipe.data.train_sources),
        "shapes": {path: shape for part in parts for path, shape in part.shapes.items()},
        "sha256": session.rows.sha256,
        "rows_by_file": {
            file.path: rows
            for prepared in [session.rows.train] + ([session.rows.heldout] if heldout else [])
            for file, rows in zip(prepared.files, prepared.rows_per_file, strict=True)
        },
        "bad_rows": [
            {"file": file, "row": row, "problem": text}
            for file, row, text in session.rows.train.problems
        ],
    }


def _train(session: Session, timeline: Timeline) -> dict[str, Any]:
    steps = timeline.steps
    seconds = sum(step["seconds"] for step in steps)
    accepted = [step["loss"] for step in steps if not step["rejected"]]
    return {
        "steps": len(steps),
        "epochs": steps[-1]["epoch"] if steps else 0.0,
        "seconds": seconds,
        "tokens_per_second": sum(step["tokens"] for step in steps) / seconds,
        "tokens_trained_per_second": sum(step["tokens_trained"] for step in steps) / seconds,
        "peak_memory_gib": max(step["memory_gib"] for step in steps),
        "rejected_steps": len(timeline.rejected),
        "precision": session.recipe.train.precision,
        "device": str(session.parts.device),
        "learning_rate": session.recipe.train.learning_rate,
        "learning_rate_source": session.lock["learning_rate"]["source"],
        "final_loss": accepted[-1] if accepted else None,
    }


def _timings(timeline: Timeline) -> dict[str, float]:
    return {
        "training": sum(step["seconds"] for step in timeline.steps),
        "evaluation": sum(e["seconds"] for e in timeline.evaluations),
        "whole": timeline.seconds,
    }
