"""Damage of every kind, seeded: all found, set aside, the parent taken; whatever the clock says.

200 mutations in the suite; 1,000, and 5,000 rotations, with TUNESMITH_FAULTS=all.
"""

import json
import os
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.checkpoint.saver_points import Training
from tunesmith.checkpoint import commit as commit_module
from tunesmith.checkpoint.commit import commit
from tunesmith.checkpoint.layout import steps
from tunesmith.checkpoint.retain import retain
from tunesmith.checkpoint.verify import latest, verify
from tunesmith.errors import CheckpointError

EVERYTHING = os.environ.get("TUNESMITH_FAULTS") == "all"
NUM_MUTATIONS = 1000 if EVERYTHING else 200
NUM_ROTATIONS = 5000 if EVERYTHING else 60


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Checkpoints of steps 1 to 3 of a run that trains, by its own Saver."""
    training = Training(tmp_path_factory.mktemp("saved") / "checkpoints")
    training.save.keep = 3
    training.run(3)
    return training.save.root


class Mutator:
    """Damages the newest of three checkpoints."""

    def __init__(self, root: Path, rng: random.Random):
        self.root, self.rng, self.newest = root, rng, root / "step-3"
        self.file = rng.choice(sorted(self.newest.iterdir()))

    def _change(self, change):
        content = bytearray(self.file.read_bytes())
        change(content, self.rng.randrange(len(content)))
        self.file.write_bytes(content)

    def flipped_bit(self):
        def change(content, place):
            content[place] ^= 1 << self.rng.randrange(8)

        self._change(change)

    def other_byte(self):
        def change(content, place):
            content[place] = (content[place] + self.rng.randrange(1, 256)) % 256

        self._change(change)

    def zeroed_block(self):
        def change(content, place):
            end = min(place + self.rng.choice([16, 512, 4096]), len(content))
            if any(content[place:end]):
                content[place:end] = bytes(end - place)
            else:
                content[place] = 1

        self._change(change)

    def doubled_bytes(self):
        def change(content, place):
            content[place:place] = content[place : place + 8]

        self._change(change)

    def cut_off(self):
        os.truncate(self.file, self.rng.randrange(self.file.stat().st_size))

    def appended(self):
        with self.file.open("ab") as file:
            file.write(b"\n")

    def missing_file(self):
        self.file.unlink()

    def extra_file(self):
        (self.newest / "extra").write_bytes(b"")

    def file_of_another(self):
        other = self.root / f"step-{self.rng.choice([1, 2])}" / self.file.name
        shutil.copy(other, self.file)

    def files_of_another(self):
        names = self.rng.sample(["MANIFEST.json", "state.json", "state.safetensors"], 2)
        for name in names:
            shutil.copy(self.root / "step-2" / name, self.newest / name)

    def folder_of_another(self):
        shutil.rmtree(self.newest)
        shutil.copytree(self.root / "step-2", self.newest)

    def swapped_within(self):
        first, second = self.newest / "state.json", self.newest / "state.safetensors"
        first.rename(self.newest / "x")
        second.rename(first)
        (self.newest / "x").rename(second)

    def edited_manifest(self):
        path = self.newest / "MANIFEST.json"
        record = json.loads(path.read_text())
        key = self.rng.choice(sorted(record))
        record[key] = self.rng.choice([3.0, "3", None, {}, []])
        path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")

    def same_manifest_in_other_words(self):
        path = self.newest / "MANIFEST.json"
        path.write_text(json.dumps(json.loads(path.read_text())))

    def link(self):
        target = self.newest.parent / "moved"
        self.file.rename(target)
        self.file.symlink_to(target)


KINDS = sorted(name for name in vars(Mutator) if not name.startswith("_"))


def test_mutated_checkpoints_are_all_found_and_the_parent_is_taken(saved, tmp_path):
    weights = {step: (saved / f"step-{step}" / "state.safetensors").read_bytes() for step in (1, 2)}
    for seed in range(NUM_MUTATIONS):
        root, kind = tmp_path / str(seed), KINDS[seed % len(KINDS)]
        shutil.copytree(saved, root)
        getattr(Mutator(root, random.Random(seed)), kind)()
        training = Training(root)
        aside = training.go_on()
        assert training.step == 2, (kind, seed)
        assert [path for path, _ in aside] == [root / "quarantine" / "step-3"], (kind, seed)
        assert aside[0][1], (kind, seed)
        assert (root / "step-2" / "state.safetensors").read_bytes() == weights[2], (kind, seed)
        shutil.rmtree(root)
    print(f"{NUM_MUTATIONS} of {NUM_MUTATIONS} mutations found; the parent was taken each time")


def test_each_byte_of_a_checkpoint_counts(saved, tmp_path):
    """Not a sample: each byte of each file is changed in turn."""
    root = tmp_path / "root"
    shutil.copytree(saved, root)
    folder = root / "step-3"
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        places = range(len(whole)) if EVERYTHING else range(0, len(whole), 7)
        for place in places:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
            with pytest.raises(CheckpointError):
                verify(folder)
        path.write_bytes(whole)
    assert verify(folder).step == 3


CLOCKS = {
    "backwards": lambda n: -timedelta(days=n),
    "an hour to and fro": lambda n: timedelta(hours=(-1) ** n),
    "ten years ahead": lambda n: timedelta(days=3650 * (n % 2)),
    "standing still": lambda n: timedelta(0),
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_nothing_is_decided_by_a_clock(tmp_path, monkeypatch, clock):
    for number in range(1, 7):
        moment = datetime(2026, 11, 24, tzinfo=UTC) + CLOCKS[clock](number)
        monkeypatch.setattr(commit_module, "now", moment.isoformat)
        folder = commit(tmp_path, number, lambda to, n=number: (to / "x").write_text(str(n)))
        for path in (*folder.iterdir(), folder, tmp_path):
            os.utime(path, (moment.timestamp(), moment.timestamp()))
        assert latest(tmp_path).manifest.step == number
        best = 2 if number >= 2 else 1
        retain(tmp_path, 2, {best})
        wanted = sorted({best, number} | ({number - 1} if number > 1 else set()))
        assert steps(tmp_path) == wanted
    assert verify(tmp_path / "step-6").parent == 5


class Rotation(RuleBasedStateMachine):
    """A run that saves step after step while the best moves and checkpoints are damaged."""

    @initialize(keep=st.integers(1, 3))
    def begin(self, keep):
        self.root = Path("/dev/shm" if Path("/dev/shm").is_dir() else "/tmp")
        self.root = self.root / f"rotation-{os.getpid()}-{id(self)}"
        self.keep, self.step, self.best, self.damaged = keep, 0, None, set()

    @rule(improved=st.booleans(), gap=st.integers(1, 3))
    def save(self, improved, gap):
        self.step += gap
        commit(self.root, self.step, lambda to: (to / "x").write_text(f"step {self.step:6}"))
        self.best = self.step if improved or self.best is None else self.best
        retain(self.root, self.keep, {self.best})
        assert self.step in self.whole()
        assert len(set(steps(self.root)) - {self.best}) <= self.keep

    @rule(choice=st.randoms(use_true_random=False))
    def damage(self, choice):
        # The best and the newest whole one are what a run lives on; of the others any may rot.
        whole = self.whole()
        spare = sorted(whole - {self.best, max(whole, default=None)})
        if spare:
            step = choice.choice(spare)
            (self.root / f"step-{step}" / "x").write_text("step   bad!")
            self.damaged.add(step)

    @rule()
    def resume(self):
        found = latest(self.root)
        assert (found.manifest.step if found.manifest else None) == max(self.whole(), default=None)

    @invariant()
    def best_and_newest_are_there(self):
        if getattr(self, "best", None) is None:
            return
        assert {self.best, self.step} <= self.whole()

    def whole(self) -> set[int]:
        return {step for step in steps(self.root) if step not in self.damaged}

    def teardown(self):
        shutil.rmtree(getattr(self, "root", "/nowhere"), ignore_errors=True)


TestRotation = Rotation.TestCase
TestRotation.settings = settings(
    max_examples=NUM_ROTATIONS, stateful_step_count=12, deadline=None, derandomize=not EVERYTHING
)
