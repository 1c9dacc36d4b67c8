"""The plan as it is printed."""

from dataclasses import dataclass, replace
from io import StringIO

import pytest
from rich.console import Console

from tunesmith.cli.show_plan import PlanView


@dataclass
class Check:
    name: str
    ok: bool
    figure: object
    says: str


PLAN = PlanView(
    recipe="examples/tickets.yaml",
    base="starter",
    base_parameters=134_515_008,
    rows_train=1000,
    rows_eval=200,
    tokens=122_640,
    tokens_trained=21_400,
    checks=(
        Check("stop token trained", True, 1.0, "each answer ends in [x]"),
        Check("duplicates", False, 2, "2 rows"),
    ),
    num_steps=125,
    num_epochs=2.0,
    precision="fp32",
    device="cpu",
    adapter="lora",
    targets=("q_proj x30", "v_proj x30"),
    trainable_parameters=4_884_480,
    worst_batch_tokens=1108,
    peak_memory_gib=2.02,
    available_memory_gib=6.8,
    seconds_per_step=1.52,
    predicted_seconds=250.0,
    warnings=("2 held-out rows are trained on too",),
)


def shown(plan: PlanView, width: int = 100) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(plan)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def test_the_whole_plan() -> None:
    assert shown(PLAN) == (
        "Plan of examples/tickets.yaml\n"
        "\n"
        "base           starter, 134.5 M parameters\n"
        "data           1,000 rows to train on, 200 rows held out\n"
        "tokens         122,640 an epoch, 17.4 % of them trained\n"
        "steps          125 (2 epochs)\n"
        "arithmetic     fp32 on cpu\n"
        "adapter        lora, 4,884,480 parameters trained (3.6 % of the base)\n"
        "modules        q_proj x30, v_proj x30\n"
        "largest batch  1,108 tokens\n"
        "memory         2.0 GiB at its peak, measured, of 6.8 GiB: it fits\n"
        "pace           1.5s a step, measured\n"
        "time           about 4m10s of training, evaluations besides\n"
        "\n"
        "Token contract\n"
        "ok      stop token trained  1  each answer ends in [x]\n"
        "not ok  duplicates          2  2 rows\n"
        "\n"
        "warning: 2 held-out rows are trained on too\n"
    )


@pytest.mark.parametrize(
    ("peak", "available", "fits", "says"),
    [
        (2.0, 6.8, True, "of 6.8 GiB: it fits"),
        (8.0, 6.8, False, "of 6.8 GiB: it does not fit"),
        (2.0, None, None, "2.0 GiB at its peak, measured\n"),
        (None, 6.8, None, "pace"),
    ],
)
def test_memory(peak: float | None, available: float | None, fits: bool | None, says: str) -> None:
    plan = replace(PLAN, peak_memory_gib=peak, available_memory_gib=available)
    assert plan.fits is fits
    assert says in shown(plan)


def test_what_was_not_measured_is_left_out() -> None:
    plan = replace(
        PLAN,
        checks=(),
        worst_batch_tokens=None,
        peak_memory_gib=None,
        seconds_per_step=None,
        predicted_seconds=None,
        rows_eval=0,
        num_epochs=0.5,
        warnings=(),
    )
    text = shown(plan)
    assert text.endswith("modules     q_proj x30, v_proj x30\n")
    assert "(0.50 epochs)" in text
    assert "held out" not in text


def test_a_narrow_terminal_folds_and_loses_nothing() -> None:
    text = shown(PLAN, width=40)
    assert max(map(len, text.splitlines())) <= 40
    assert "it fits" in " ".join(text.split())


def test_passes_and_evaluations_are_told_where_they_were_measured() -> None:
    plan = replace(
        PLAN, passes_per_step=2.04, padding=0.0, imbalance=0.0123, evaluation_seconds=65.0
    )
    text = shown(plan)
    assert "passes         2.0 a step, 0.0 % padding, the largest 1.2 % over the mean\n" in text
    assert "time           about 4m10s of training, and about 1m05s of evaluation\n" in text
    drawing = shown(replace(PLAN, sampling_seconds=125.0))
    assert "about 4m10s of training, 2m05s of drawing answers, evaluations besides" in drawing


def test_asking_the_untrained_model_is_told_where_it_takes_time() -> None:
    text = shown(replace(PLAN, reference_seconds=90.0), width=200)
    assert "evaluations besides, after 1m30s of asking the untrained model\n" in text


@pytest.mark.parametrize(
    ("fits", "says"),
    [
        (True, "hint: with train.batch_rows=4 train.accumulate=2 it would fit: 5.1 GiB\n"),
        (
            False,
            "hint: with train.batch_rows=4 train.accumulate=2 even so it would not fit, at its "
            "peak: 5.1 GiB\n",
        ),
    ],
)
def test_what_would_make_it_fit(fits: bool, says: str) -> None:
    changes = [("train.batch_rows=4 train.accumulate=2", 5.1, fits)]
    assert says in shown(replace(PLAN, peak_memory_gib=8.0, changes=changes))
