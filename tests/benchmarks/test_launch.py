"""Starting a side: what it says comes back, with its memory, and so does why it said nothing."""

import sys

import pytest

from benchmarks.launch import environment, run
from benchmarks.roster import MALLOC, SCRIPTS, SIDES

PRINTS = "print('noise'); print('RESULT {\"steps\": []}'); print('more noise')"


def python(code: str, timeout: float = 60.0) -> dict:
    return run([sys.executable, "-c", code], {}, timeout)


def test_the_result_line_is_found_among_noise():
    found = python(PRINTS)
    assert found["steps"] == []
    assert found["wall_seconds"] > 0


def test_the_peak_is_that_of_the_child_and_not_of_its_parent():
    code = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
sys.argv[1:] = ["{{}}"]
from steps import report
report(lambda job: {{"steps": [], "held": len(b"1" * SIZE)}})
"""
    small = python(code.replace("SIZE", "1"))["peak_gib"]
    large = python(code.replace("SIZE", str(256 << 20)))["peak_gib"]
    assert large - small == pytest.approx(0.25, abs=0.02)
    assert small < 0.05  # pytest itself holds more than that


def test_a_side_that_dies_fails_with_its_last_line():
    found = python("import sys; sys.stderr.write('Traceback\\nKeyError: nothing\\n'); sys.exit(3)")
    assert found["failed"] == "exit 3: KeyError: nothing"
    assert "steps" not in found


def test_a_side_that_takes_too_long_is_stopped():
    found = python("import time; time.sleep(60)", timeout=0.5)
    assert found["failed"] == "over 0 s"
    assert found["wall_seconds"] < 20


def test_malloc_settings_go_to_the_sides_that_have_them_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    plain, tuned = environment(SIDES["trl"], 2), environment(SIDES["trl-tuned"], 2)
    assert not [key for key in plain if key.startswith("MALLOC")]
    assert {key: tuned[key] for key in MALLOC} == MALLOC
    assert plain["OMP_NUM_THREADS"] == tuned["OMP_NUM_THREADS"] == "2"


def test_a_peer_does_not_see_our_modules(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/here/src")
    assert "PYTHONPATH" not in environment(SIDES["trl"], 1)
    assert environment(SIDES["tunesmith"], 1)["PYTHONPATH"] == "/here/src"


@pytest.mark.parametrize("name", list(SIDES))
def test_every_side_has_its_script_and_pins(name):
    from benchmarks.environments import PINS

    side = SIDES[name]
    assert side.path.is_file()
    assert side.environment is None or (PINS / f"{side.environment}.txt").is_file()
