"""The table and the page say what was measured, and why there is no figure."""

from io import StringIO

import pytest
from rich.console import Console

from benchmarks.cases import CASES
from benchmarks.compare import Row, Spread
from benchmarks.flops import Shapes
from benchmarks.machine import facts, lengths_of
from benchmarks.show import COLUMNS, cells, markdown, page, print_case

FACTS = {
    "rows_per_step": 8,
    "tokens_per_step": 1645.2,
    "share_trained": 0.81,
    "timed_steps": 4,
    "repeats": 3,
    "mflop_per_token": 560.0,
    "limit_gflops": 370.0,
    "limit_type": "bf16",
    "limit_tokens_per_second": 660.0,
    "shapes_tokens_per_second": 601.0,
}
MEASURED = Row(
    side="trl",
    tokens=Spread(51.4, 50.0, 52.0),
    trained=Spread(41.6, 40.0, 42.0),
    padding=0.45,
    peak_gib=14.52,
    ratio=Spread(6.123, 5.9, 6.4),
    losses=(2.1, 2.0, 1.9),
)
REFUSED = Row(side="litgpt", remark="LitGPT has no dpo")


def test_cells_of_a_measured_side():
    assert cells(MEASURED, 660.0) == [
        "trl",
        "51 (50 to 52)",
        "42",
        "8%",
        "45%",
        "14.5",
        "6.12 (5.90 to 6.40)",
        "2.100 to 1.900",
    ]


def test_cells_of_a_side_without_figures_give_the_reason():
    found = cells(REFUSED, 660.0)
    assert found[:2] == ["litgpt", "- (LitGPT has no dpo)"]
    assert len(found) == len(COLUMNS)


def test_the_page_lists_refusals_below_the_table():
    text = markdown("LoRA", [MEASURED, REFUSED], FACTS)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 3
    assert "- litgpt: LitGPT has no dpo" in text
    assert "8 rows and 1645 tokens a step, 81% of them trained" in text
    assert "660 tokens/s, 560 MFLOP a token at 370 GFLOP/s (bf16)" in text
    assert "601 tokens/s with each shape at its own rate" in text


def test_the_terminal_shows_every_side():
    console = Console(width=160, record=True, file=StringIO())
    print_case(console, "LoRA", [MEASURED, REFUSED], FACTS)
    shown = console.export_text()
    assert "51 (50 to 52)" in shown
    assert "LitGPT has no dpo" in shown


def test_the_whole_page_names_machine_sides_and_versions():
    result = {
        "date": "2026-11-24T08:00:00+00:00",
        "machine": {
            "processor": "AMD EPYC",
            "cores": 2,
            "threads": 2,
            "memory_gib": 23.5,
            "system": "Linux 6.1",
        },
        "sides": ["tunesmith", "trl"],
        "runs": [{"side": "trl", "versions": {"trl": "1.16.0"}}],
    }
    text = page(result, ["## LoRA\n"])
    assert "2026-11-24" in text
    assert "AMD EPYC, 2 cores, 2 threads, 24 GiB" in text
    assert "trl 1.16.0" in text
    assert "## LoRA" in text


SHAPES = Shapes(((2, 3),), num_layers=1, vocabulary=5, width=3, attention_width=3)


def line(tokens: int, trained: int) -> dict:
    return {"input_ids": [0] * tokens, "trained": [1] * trained + [0] * (tokens - trained)}


def test_facts_leave_the_warm_up_step_out_and_take_the_best_limit():
    case = CASES["lora"]
    rows = [line(9, 9)] * case.rows_per_step + [line(4, 1)] * case.rows_per_step * 2
    limits = [
        {"bf16": {"2x3": 10.0, "5x3": 6.0}, "fp32": {"2x3": 4.0, "5x3": 4.0}},
        {"bf16": {"2x3": 12.0, "5x3": 5.0}, "fp32": {"2x3": 5.0, "5x3": 3.0}},
    ]
    found = facts(case, SHAPES, rows, limits, repeats=2)
    assert found["timed_steps"] == 2
    assert found["tokens_per_step"] == 32
    assert found["share_trained"] == 0.25
    assert (found["limit_gflops"], found["limit_type"]) == (12.0, "bf16")
    # layers 4 x 6, LoRA 6 x 16 x (2 + 3), attention 3 x 2 x 4 x 3, head 4 x 15 at every fourth
    per_token = 24 + 480 + 72 + 15
    assert found["mflop_per_token"] == pytest.approx(per_token / 1e6)
    assert found["limit_tokens_per_second"] == pytest.approx(12e9 / per_token)
    # the same with the head at 6 GFLOP/s
    assert found["shapes_tokens_per_second"] == pytest.approx(
        1e9 / ((per_token - 15) / 12 + 15 / 6)
    )


def test_a_preference_pair_counts_both_its_sides():
    pair = {"tokens": [10, 7], "num_trained": [4, 1]}
    assert lengths_of(pair) == [(10, 4), (7, 1)]
    case = CASES["dpo"]
    found = facts(case, SHAPES, [pair] * case.rows_per_step * 2, [], repeats=1)
    assert found["tokens_per_step"] == 17 * case.rows_per_step
    assert "limit_tokens_per_second" not in found
