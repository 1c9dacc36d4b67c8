"""What retention keeps, whatever happened before."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.checkpoint.commit import commit
from tunesmith.checkpoint.layout import steps
from tunesmith.checkpoint.retain import retain
from tunesmith.checkpoint.verify import latest, verify
from tunesmith.errors import CheckpointError


def save(root, step: int):
    return commit(root, step, lambda folder: (folder / "state").write_text(f"step {step:9}"), {})


def damage(root, step: int, kind: str = "bytes"):
    """Make a checkpoint fail its check: by its bytes, its size or its manifest."""
    target = root / f"step-{step}"
    if kind == "bytes":
        (target / "state").write_text("x" * 14)
    elif kind == "size":
        os.truncate(target / "state", 3)
    else:
        (target / "MANIFEST.json").unlink()


@pytest.mark.parametrize(
    ("keep", "protect", "left"),
    [
        (1, set(), [50]),
        (2, set(), [40, 50]),
        (9, set(), [10, 20, 30, 40, 50]),
        (1, {20}, [20, 50]),
        (2, {20}, [20, 40, 50]),
        (2, {40}, [40, 50]),
        (1, {10, 999}, [10, 50]),
    ],
)
def test_the_newest_and_the_protected_stay(tmp_path, keep, protect, left):
    for step in (10, 20, 30, 40, 50):
        save(tmp_path, step)
    deleted = retain(tmp_path, keep, protect)
    assert steps(tmp_path) == left
    assert deleted == sorted({10, 20, 30, 40, 50} - set(left))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [f"step-{step}" for step in left]


def test_a_clock_set_back_changes_nothing(tmp_path):
    for age, step in enumerate((100, 200, 300)):
        folder = save(tmp_path, step)
        os.utime(folder, (1e9 - age, 1e9 - age))
    assert retain(tmp_path, 2, set()) == [100]


def test_damaged_new_ones_do_not_push_out_the_last_good_one(tmp_path):
    for step in (10, 20, 30, 40):
        save(tmp_path, step)
    damage(tmp_path, 30)
    damage(tmp_path, 40, "manifest")
    assert retain(tmp_path, 1, set()) == [10]
    assert latest(tmp_path).manifest.step == 20


def test_a_damaged_one_takes_no_place(tmp_path):
    for step in (10, 20, 30, 40):
        save(tmp_path, step)
    damage(tmp_path, 30, "size")
    assert retain(tmp_path, 2, set()) == [10, 30]


def test_nothing_is_deleted_when_nothing_verifies(tmp_path):
    for step in (10, 20):
        save(tmp_path, step)
        damage(tmp_path, step)
    assert retain(tmp_path, 1, set()) == []
    assert steps(tmp_path) == [10, 20]


def test_an_empty_or_missing_folder_is_fine(tmp_path):
    assert retain(tmp_path, 1, set()) == []
    assert retain(tmp_path / "missing", 1, set()) == []


def test_keeping_none_is_refused(tmp_path):
    save(tmp_path, 10)
    with pytest.raises(ValueError, match="keep: got 0; expected at least 1"):
        retain(tmp_path, 0, set())


NUMBERS = st.integers(0, 9)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("save"), NUMBERS),
        st.tuples(st.just("damage"), NUMBERS, st.sampled_from(["bytes", "size", "manifest"])),
        st.tuples(st.just("retain"), st.integers(1, 3), st.frozensets(NUMBERS, max_size=2)),
        st.tuples(st.just("latest")),
    ),
    max_size=14,
)


def verified(root) -> set[int]:
    whole = set()
    for step in steps(root):
        try:
            whole.add(verify(root / f"step-{step}").step)
        except CheckpointError:
            continue
    return whole


@settings(max_examples=150, deadline=None)
@given(actions=ACTIONS)
def test_best_and_newest_verified_always_stay(actions):
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        root = Path(name)
        for action, *arguments in actions:
            before, whole = set(steps(root)), verified(root)
            if action == "save":
                save(root, *arguments)
            elif action == "damage" and arguments[0] in whole:
                damage(root, *arguments)
            elif action == "latest":
                found = latest(root).manifest
                assert (found.step if found else None) == max(whole, default=None)
            elif action == "retain":
                keep, protect = arguments
                deleted = set(retain(root, keep, protect))
                assert set(steps(root)) == before - deleted
                assert not deleted & protect
                assert set(sorted(whole)[-1:]) <= verified(root)
                assert len(verified(root)) >= min(1, len(whole))
                looks_whole = set(steps(root)) - protect
                assert len([s for s in looks_whole if s <= max(whole, default=-1)]) <= keep
