"""Resume, proven: over the matrix of recipes, and with the engine broken on purpose.

`TUNESMITH_MATRIX=full` proves every recipe of the matrix instead of the few that cover all pairs,
and one of them in processes that are not forked.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.breaks import BREAKS
from tests.api.matrix import (
    DRAWN,
    POISONED,
    ROWS_A_STEP,
    covering,
    drawn_recipe,
    matrix,
    name,
    pairs,
    recipe,
    write_rows,
)
from tunesmith.api.proof.compare import KINDS
from tunesmith.testing.tiny import tiny_base

FULL = os.environ.get("TUNESMITH_MATRIX") == "full"
MATRIX = {name(case): case for case in (matrix() if FULL else covering(matrix()))}
DRIVER = Path(__file__).parent / "prove_forked.py"
ROOT = Path(__file__).parents[2]

NOTICED = {
    "order_ignores_epoch": "an order of its own: epoch 2 comes in the order of epoch 1",
    "order_loses_rows": r"as often as it should: epoch 1: example \d+ comes 2 times",
    "seed_ignores_step": "drew its random numbers anew: step 2: seed 0, which step 1 had",
    "steps_are_not_seeded": r"seeds of steps: step 1: seed \d+ where the first run had \d+",
    "optimizer_starts_anew": r"optimizer: optimizer/.*exp_avg has other bits \(and \d+ more of",
    "rate_counts_for_itself": r"learning rates: step \d: learning rate 0.01 where the first",
    "loader_counts_for_itself": r"order of rows: step 2: rows rows-12.jsonl:\d+, .* \(planned for "
    r"step 1\), where the first run had rows rows-12.jsonl:\d+",
    "history_is_lost": r"evaluations of steps \[2, 3, 4\] where the first run had those of \[0, 1,",
    "first_step_is_left_out": r"order of rows: steps \[1, 2, 4, 6\] where the first run had",
    "one_parameter_is_not_restored": r"weights: .* has other bits \(and \d+ more of 28\)",
    "measuring_moves_weights": r"trained again, losses: step \d: .* where the first run had",
}
"""What the certificate says of each break."""
STEPS = {"first_step_is_left_out": 6}
"""Four steps are saved after each: the one left out would be the one whose save is waited for."""

OPTIONS = {
    "muon, moving average, noise, KL to the base": {
        "optimizer": "muon",
        "weight_decay": 0.1,
        "ema": 0.9,
        "noise": 5.0,
        "kl_to_base": 0.1,
    },
    "rates by depth, unfreezing, a floor": {
        "layer_decay": 0.5,
        "unfreeze": 2,
        "schedule": "inverse_sqrt",
        "min_rate": 0.5,
        "optimizer": "adafactor",
    },
}
"""Keys of `train` that change what a checkpoint holds or what a step draws."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> dict[str, dict]:
    """The certificate of each case of the matrix, and of each break, by name."""
    place = tmp_path_factory.mktemp("proofs")
    base = tiny_base(place / "base")
    rows = {n: write_rows(place / f"rows-{n}.jsonl", n) for n in (12, 16, 24)}
    cases = []
    for called, case in MATRIX.items():
        made = recipe(case, base, rows[case["epoch_steps"] * ROWS_A_STEP])
        poisoned = {"poisoned": POISONED} if case["rejected"] else {}
        cases.append({"name": called, "recipe": made, **poisoned})
    # Dropout, so that seeds matter; three steps an epoch; held-out rows, for a history to lose.
    plain = recipe(
        {**next(iter(MATRIX.values())), "adapter": "lora", "dropout": 0.1}, base, rows[12]
    )
    plain["data"]["eval"] = str(rows[12])
    cases += [
        {"name": each, "recipe": drawn_recipe(each, base, rows[12]), "steps": 6} for each in DRAWN
    ]
    cases += [
        {"name": each, "recipe": plain, "broken": each, "steps": STEPS.get(each, 4)}
        for each in BREAKS
    ]
    for called, keys in OPTIONS.items():
        own = {**plain, "train": {**plain["train"], **keys}, "checkpoint": {"average": {"last": 2}}}
        cases.append({"name": called, "recipe": own})
    (place / "cases.json").write_text(json.dumps(cases))
    command = [sys.executable, str(DRIVER), str(place), str(place / "cases.json")]
    done = subprocess.run(
        command, env=_environment(place), capture_output=True, text=True, timeout=3600, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


def _environment(home: Path) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {
        **os.environ,
        "PYTHONPATH": path,
        "TUNESMITH_HOME": str(home / "home"),
        # A child of a process whose OpenMP threads have been at work may wait for them for ever.
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.parametrize("called", MATRIX)
def test_killed_and_resumed_is_bitwise_the_same(certificates, called):
    case, found = MATRIX[called], certificates[called]
    assert found["ok"], found["differences"]
    says = [claim["says"] for claim in found["claims"]]
    assert all(f"killed and resumed: the same {kind}" in says for kind in KINDS)
    assert found["epoch_steps"] == case["epoch_steps"]
    assert [kill["step"] for kill in found["killed"]] == [4, 4]
    assert [kill["resumed_from"] for kill in found["killed"]] == [2, 4]
    figures = {claim["says"]: claim["figure"] for claim in found["claims"]}
    counted = figures["killed and resumed: the same counters"]
    assert (counted != "0 steps rejected") == case["rejected"]


@pytest.mark.parametrize("called", OPTIONS)
def test_options_of_training_are_resumed_to_the_bit(certificates, called):
    found = certificates[called]
    assert found["ok"], found["differences"]


@pytest.mark.parametrize("method", DRAWN)
def test_drawn_answers_are_the_same_after_a_kill(certificates, method):
    found = certificates[method]
    assert found["ok"], found["differences"]
    assert found["steps"] == 6
    assert "each step had the rows that the plan has for it" in {c["says"] for c in found["claims"]}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_engine_is_not_proven(certificates, broken):
    found = certificates[broken]
    assert not found["ok"]
    with pytest.raises(AssertionError, match=NOTICED[broken]):
        raise AssertionError("\n".join(found["differences"]))


def test_the_few_cases_cover_every_pair_of_the_matrix():
    whole = matrix()
    assert len(whole) >= 240
    found = {pair for case in covering(whole) for pair in pairs(case)}
    assert found == {pair for case in whole for pair in pairs(case)}


@pytest.mark.skipif(not FULL, reason="five processes that each import torch; TUNESMITH_MATRIX=full")
def test_processes_that_are_not_forked(tmp_path):
    case = next(iter(MATRIX.values()))
    rows = write_rows(tmp_path / "rows.jsonl", case["epoch_steps"] * ROWS_A_STEP)
    made = recipe(case, tiny_base(tmp_path / "base"), rows)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(json.dumps(made))
    command = [sys.executable, "-m", "tunesmith.cli.main", "prove", str(tmp_path / "run"), "--json"]
    done = subprocess.run(
        command, env=_environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    kept = json.loads((tmp_path / "run" / "proof" / "certificate.json").read_text())
    assert kept == {key: value for key, value in found.items() if key != "run"}
