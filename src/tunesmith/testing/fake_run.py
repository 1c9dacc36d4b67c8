"""A run folder as a run would leave it, without training: for the report, listing and dashboard.

The numbers are invented but hang together: the report agrees with the events.
"""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from json import dumps
from math import cos, exp, pi, sin
from pathlib import Path
from typing import Any, Literal

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
from tunesmith.runs.folder import RunFolder

Ending = Literal["succeeded", "failed", "interrupted", "killed"]

WARNING = "token contract: held-out rows also trained on: 2 rows of data/eval.jsonl"
NUM_STEPS, EVERY, LAST_STEP = 125, 25, {"succeeded": 125, "failed": 61, "interrupted": 80}
START = datetime(2026, 9, 1, 9, 30, tzinfo=UTC)

ROWS = [
    {
        "prompt": "My router drops the connection every evening at about eight. Order 4471.",
        "expected": '{"category": "network", "order": "4471", "urgent": false}',
        "before": "I'm sorry to hear that your router is dropping the connection. Here are some "
        "steps you can take to troubleshoot the problem:\n\n1. Restart the router.\n2. Check the "
        "cables.\n3. Update the firmware.",
        "after": '{"category": "network", "order": "4471", "urgent": false}',
        "score_before": 0.0,
        "score_after": 1.0,
    },
    {
        "prompt": "URGENT!!! I was charged twice (2 x 39,90 EUR) and nobody answers the phone",
        "expected": '{"category": "billing", "order": null, "urgent": true}',
        "before": "Dear customer, thank you for your message. We are sorry.",
        "after": '{"category": "billing", "order": null, "urgent": true}',
        "score_before": 0.0,
        "score_after": 1.0,
    },
    {
        "prompt": "Wie kann ich mein Passwort ändern? Danke & viele Grüße",
        "expected": '{"category": "account", "order": null, "urgent": false}',
        "before": "",
        "after": '{"category": "account", "order": null, "urgent": false}',
        "score_before": 0.0,
        "score_after": 1.0,
    },
    {
        "prompt": "The parcel of order 9032 has not come, tracking says it is in Lyon since May.",
        "expected": '{"category": "delivery", "order": "9032", "urgent": false}',
        "before": "The parcel of order 9032 has not come, tracking says it is in Lyon.",
        "after": '{"category": "delivery", "order": "9032", "urgent": true}',
        "score_before": 0.0,
        "score_after": 0.0,
    },
    {
        "prompt": "app crashes\n\n  Traceback (most recent call last):\n    KeyError: 'id'\n\nhelp",
        "expected": '{"category": "software", "order": null, "urgent": false}',
        "before": "The error message `KeyError: 'id'` means that a key is missing in a dict.",
        "after": '{"category": "software", "order": null, "urgent": false}',
        "score_before": 0.0,
        "score_after": 1.0,
    },
]

LOCK = {
    "versions": {
        "tunesmith": "0.1.0",
        "python": "3.11.2",
        "torch": "2.13.0",
        "transformers": "5.23.0",
        "peft": "0.21.0",
    },
    "recipe_sha256": "5d" * 32,
}


def fake_run(path: Path, ending: Ending = "succeeded", measured: bool = True) -> RunFolder:
    """Writes a run folder.

    Args:
        path: Made; a run that lies there is moved aside.
        ending: How the run ended; a killed one has no report.json and no last event.
        measured: Whether there were a task, held-out rows and a probe.

    Returns:
        The folder, without report.md and report.html.
    """
    folder, _ = RunFolder.create(path)
    folder.recipe.write_text("model:\n  base: starter\n", encoding="utf-8")
    clock = START
    with folder.events.open("w", encoding="utf-8") as file:
        for event in events(ending, measured):
            clock += timedelta(seconds=event.seconds if isinstance(event, Step) else 0.5)
            kind = type(event).__name__.lower()
            record = {"time": clock.isoformat(), "event": kind, **asdict(event)}
            file.write(dumps(record, ensure_ascii=False) + "\n")
    _put(folder.lock, LOCK)
    if ending == "killed":
        return folder
    _put(folder.report_json, report(ending, measured))
    if measured and ending == "succeeded":
        _put(folder.samples, ROWS)
    return folder


def _put(path: Path, value: Any) -> None:
    path.write_text(dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")


def events(ending: Ending = "succeeded", measured: bool = True) -> list[Event]:
    """What the run told, in order; step 43 is rejected."""
    last = LAST_STEP.get(ending, 66)
    told: list[Event] = [
        Started(4242, "0.1.0"),
        Phase("loading the base"),
        Planned(NUM_STEPS, 2.0, 1000, 200, 122_640, 21_400, 4_884_480, "fp32", "cpu"),
        Phase("measuring the base"),
        evaluated(0, measured),
        Phase("training"),
    ]
    for number in range(1, last + 1):
        told.append(step(number))
        if number == 60:
            told.append(Warned(WARNING))
        if number % EVERY == 0:
            told += [evaluated(number, measured)] if measured else []
            told.append(Saved(number, f"checkpoints/step-{number}", best=number <= 100))
    endings: dict[str, Finished] = {
        "succeeded": Finished("succeeded"),
        "failed": Finished("failed", REASONS["failed"], 3),
        "interrupted": Finished("interrupted", REASONS["interrupted"], 130),
    }
    return [*told, endings[ending]] if ending in endings else told


REASONS = {
    "succeeded": "",
    "failed": "train: got 3 rejected steps in a row; expected finite losses\n"
    "hint: lower train.learning_rate",
    "interrupted": "Ctrl-C",
}


def step(number: int) -> Step:
    """Step `number` of the fake run."""
    noise = 0.09 * sin(number * 2.3) + 0.06 * sin(number * 7.1)
    loss = 0.14 + 2.2 * exp(-number / 17) + noise * exp(-number / 60)
    rate = 2e-4 * min(1, number / 12) * (0.55 + 0.45 * cos(pi * number / NUM_STEPS))
    tokens = 960 + 37 * (number % 5)
    seconds = tokens / (684 + 20 * sin(number))
    made = Step(
        number, number / 62.5, loss, rate, 0.8, tokens, tokens // 6, seconds, 2.1 + number / 2000
    )
    if number != 43:
        return made
    rows = (("data/train.jsonl", 17), ("data/train.jsonl", 388))
    return replace(made, loss=float("nan"), rejected=True, rows=rows)


def evaluated(number: int, measured: bool = True) -> Evaluated:
    """The evaluation after step `number`."""
    if not measured:
        return Evaluated(number, None, (), None, 0.1)
    share = 0.915 * (1 - exp(-number / 22))
    score = 0.915 if number >= 100 else round(200 * share) / 200
    kl = 0.041 * (1 - exp(-number / 40))
    loss = 0.212 + 2.204 * exp(-number / 20)
    return Evaluated(
        number, loss, (TaskScore("tickets", 200, score),), Forgetting(kl, 0.912 + kl / 2), 11.6
    )


def report(ending: Ending = "succeeded", measured: bool = True) -> dict[str, Any]:
    """The `report.json` of the fake run."""
    good = ending == "succeeded"
    done = measured and good
    last = LAST_STEP[ending]
    return {
        "status": ending,
        "reason": REASONS[ending],
        "name": "tickets",
        "started": "2026-09-01T09:30:00.000Z",
        "finished": "2026-09-01T09:35:12.000Z",
        "base": BASE,
        "data": {
            "rows_train": 1000,
            "rows_eval": 200 if measured else 0,
            "tokens": 122_640,
            "tokens_trained": 21_400,
            "dropped": 3,
            "truncated": 0,
            "skipped": 0,
            "shapes": {"data/train.jsonl": "chat", "data/eval.jsonl": "chat"},
            "sha256": {"data/train.jsonl": "ab" * 32, "data/eval.jsonl": "cd" * 32},
        },
        "contract": CONTRACT,
        "task": TASK if done else None,
        "tasks": [TASK] if done else [],
        "eval_loss": LOSS if done else None,
        "forgetting": FORGETTING if done else None,
        "train": {
            "steps": last,
            "epochs": last / 62.5,
            "seconds": 188.4,
            "tokens_per_second": 684.2,
            "tokens_trained_per_second": 119.3,
            "peak_memory_gib": 2.16,
            "rejected_steps": 1,
            "precision": "fp32",
            "device": "cpu",
            "learning_rate": 2e-4,
            "final_loss": 0.141,
        },
        "adapter": ADAPTER,
        "fit": FIT,
        "checkpoint": {"best_step": 100 if good else 50, "last_step": last - last % EVERY},
        "artefact": {"path": "adapter", "sha256": "9f" * 32, "bytes": 19_584_112} if good else None,
        "certificate": CERTIFICATE if good else None,
        "timings": TIMINGS,
        "warnings": [WARNING],
    }


FORGETTING = {
    "kl": 0.0394,
    "kl_interval": [0.031, 0.049],
    "loss_before": 0.912,
    "loss_after": 0.931,
    "interval": [0.008, 0.03],
    "budget": 0.2,
    "within_budget": True,
}

CONTRACT = [
    {
        "check": "share of tokens trained",
        "ok": True,
        "figure": 0.1745,
        "says": "21,400 of 122,640 tokens are targets of the loss",
    },
    {
        "check": "stop token trained",
        "ok": True,
        "figure": "1000 of 1000",
        "says": "every answer ends in a trained <|im_end|>",
    },
    {
        "check": "no double BOS",
        "ok": True,
        "figure": "0",
        "says": "no example begins with two start tokens",
    },
    {
        "check": "prompt as in inference",
        "ok": True,
        "figure": "200 of 200",
        "says": "what inference sees is the beginning of what was trained",
    },
    {
        "check": "rows with nothing to train on",
        "ok": True,
        "figure": 0,
        "says": "every row has a trained token",
    },
    {
        "check": "held-out rows also trained on",
        "ok": False,
        "figure": 2,
        "says": "2 rows of data/eval.jsonl are in data/train.jsonl too (lines 12, 90)",
    },
]

BASE = {
    "id": "starter",
    "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "revision": None,
    "quantize": "none",
    "parameters": 134_515_008,
}

ADAPTER = {
    "name": "lora",
    "trainable_parameters": 4_884_480,
    "share": 0.0363,
    "targeted": [f"model.layers.*.self_attn.{letter}_proj" for letter in "qkvo"]
    + [f"model.layers.*.mlp.{name}_proj" for name in ("gate", "up", "down")],
    "untargeted": ["model.embed_tokens", "lm_head"],
}

CERTIFICATE = {
    "ok": True,
    "max_logit_difference": 1.3e-5,
    "tolerance": 1e-3,
    "equal_greedy_tokens": 1.0,
    "prompts": 16,
}

TIMINGS = {
    "loading the base": 2.9,
    "preparing rows": 1.4,
    "measuring the base": 48.1,
    "training": 188.4,
    "evaluating": 61.7,
    "certifying": 9.8,
    "whole": 312.3,
}

FIT = {
    "peak_memory_gib": 2.02,
    "worst_batch_tokens": 1108,
    "seconds_per_step": 1.52,
    "predicted_seconds": 190.0,
}

LOSS = {"before": 2.416, "after": 0.214, "interval": [-2.271, -2.133], "per": "token"}

TASK = {
    "name": "tickets",
    "n": 200,
    "before": 0.0,
    "after": 0.915,
    "gain": 0.915,
    "interval": [0.87, 0.95],
}
