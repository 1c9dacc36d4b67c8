"""Room on the disk before step 1: the figures, and what they lead to."""

import pytest

from tunesmith.runs.room import RESERVE_BYTES, Room, measure

MIB = 2**20


def room(free: int, there: int = 0) -> Room:
    return Room("runs/x", 100 * MIB, 3, there, 40 * MIB, free)


def test_all_that_is_kept_the_export_and_a_reserve_must_fit(tmp_path):
    needed = 3 * 100 * MIB + 40 * MIB + RESERVE_BYTES
    assert room(0).needed_bytes == needed
    assert room(needed).fits
    assert not room(needed - 1).fits


@pytest.mark.parametrize(("there", "checkpoints"), [(0, 3), (150, 1.5), (250, 1), (900, 1)])
def test_what_is_there_counts_but_one_more_is_always_written_first(there, checkpoints):
    needed = room(0, there * MIB).needed_bytes
    assert needed == checkpoints * 100 * MIB + 40 * MIB + RESERVE_BYTES


def test_the_shortage_names_folder_and_figures():
    error = room(5).shortage()
    assert error.exit_code == 4
    assert "runs/x: got 5 bytes free on its disk; expected " in str(error)
    assert "3 checkpoints of 104,857,600" in str(error)
    assert "checkpoint.keep" in error.hint


def test_it_is_measured_where_the_run_will_be(tmp_path):
    old = tmp_path / "run" / "checkpoints" / "step-1"
    old.mkdir(parents=True)
    (old / "state").write_bytes(b"x" * 1000)
    assert measure(tmp_path / "run", 10, 2, 5).there_bytes == 1000
    new = measure(tmp_path / "not" / "there" / "yet", 10, 2, 5)
    assert new.there_bytes == 0
    assert new.free_bytes > 0
