"""Damage of every kind is found and named, and the newest whole checkpoint is picked."""

import json
import os
import random
import shutil
import subprocess
import sys

import pytest

from tunesmith.checkpoint import manifest as manifests
from tunesmith.checkpoint.commit import commit
from tunesmith.checkpoint.verify import latest, read_manifest, verify
from tunesmith.errors import CheckpointError

FILES = {"state.safetensors": b"\x00\x01" * 300, "state.json": b"{}\n", "adapter/w": b"abc" * 50}


def save(root, step: int):
    def write(folder):
        for name, content in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content + str(step).encode())

    return commit(root, step, write, {"score": 0.5})


@pytest.fixture
def checkpoint(tmp_path):
    return save(tmp_path, 10)


def flip(path, position: int, bit: int):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def test_each_flipped_bit_of_the_manifest_is_found(checkpoint):
    path = checkpoint / "MANIFEST.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            with pytest.raises(CheckpointError, match=r"MANIFEST\.json"):
                manifests.parse_manifest(checkpoint, bytes(damaged))
    assert manifests.parse_manifest(checkpoint, whole).step == 10


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_are_found_and_their_file_is_named(checkpoint, name):
    rng = random.Random(name)
    size = (checkpoint / name).stat().st_size
    for _ in range(40):
        position, bit = rng.randrange(size), rng.randrange(8)
        flip(checkpoint / name, position, bit)
        with pytest.raises(CheckpointError) as caught:
            verify(checkpoint)
        assert caught.value.got == f"{name}: its bytes are not those that were saved" + (
            " (SHA-256 differs)"
        )
        flip(checkpoint / name, position, bit)
    assert verify(checkpoint).step == 10


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda c: os.truncate(c / "state.safetensors", 100), "100 bytes, its manifest says 602"),
        (lambda c: os.truncate(c / "adapter/w", 0), "adapter/w: 0 bytes, its manifest says 152"),
        (lambda c: (c / "state.json").unlink(), "state.json: missing"),
        (lambda c: shutil.rmtree(c / "adapter"), "adapter/w: missing"),
        (lambda c: (c / "extra.bin").write_text(""), "extra.bin: not in its manifest"),
        (lambda c: (c / ".hidden").write_text(""), ".hidden: not in its manifest"),
        (lambda c: (c / "link").symlink_to("state.json"), "link: not a regular file"),
        (lambda c: (c / "MANIFEST.json").unlink(), "no MANIFEST.json"),
        (lambda c: os.truncate(c / "MANIFEST.json", 50), "MANIFEST.json: damaged"),
        (lambda c: os.truncate(c / "MANIFEST.json", 0), "MANIFEST.json: damaged"),
        (lambda c: (c / "MANIFEST.json").write_text("[]"), "MANIFEST.json: damaged"),
        (lambda c: (c / "MANIFEST.json").write_text("{}"), "MANIFEST.json: damaged"),
        (lambda c: (c / "MANIFEST.json").write_bytes(b"\xff\x00"), "MANIFEST.json: damaged"),
    ],
)
def test_damage_is_named(checkpoint, damage, text):
    damage(checkpoint)
    with pytest.raises(CheckpointError) as caught:
        verify(checkpoint)
    assert text in str(caught.value)
    assert str(checkpoint) in str(caught.value)


def test_swapped_files_are_both_named(tmp_path):
    def write(folder):
        (folder / "a").write_text("same size 1")
        (folder / "b").write_text("same size 2")

    folder = commit(tmp_path, 10, write, {})
    (folder / "a").rename(folder / "c")
    (folder / "b").rename(folder / "a")
    (folder / "c").rename(folder / "b")
    with pytest.raises(CheckpointError, match=r"a: its bytes .* b: its bytes"):
        verify(folder)


def test_swapped_checkpoints_are_found(tmp_path):
    for step in (10, 20):
        save(tmp_path, step)
    (tmp_path / "step-10").rename(tmp_path / "spare")
    (tmp_path / "step-20").rename(tmp_path / "step-10")
    (tmp_path / "spare").rename(tmp_path / "step-20")
    with pytest.raises(CheckpointError, match="of step 20, in the folder of another step"):
        verify(tmp_path / "step-10")
    assert latest(tmp_path).manifest is None


def test_many_problems_are_counted(tmp_path):
    def write(folder):
        for number in range(9):
            (folder / f"f{number}").write_text("")

    folder = commit(tmp_path, 10, write, {})
    for number in range(9):
        (folder / f"f{number}").unlink()
    with pytest.raises(CheckpointError, match=r"f0: missing; .*f4: missing; and 4 more files"):
        verify(folder)


def test_sizes_only_does_not_read_the_bytes(checkpoint):
    flip(checkpoint / "state.json", 0, 0)
    assert verify(checkpoint, sizes_only=True).step == 10
    os.truncate(checkpoint / "state.json", 1)
    with pytest.raises(CheckpointError, match=r"state\.json: 1 bytes, its manifest says 5"):
        verify(checkpoint, sizes_only=True)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="got no such checkpoint"):
        read_manifest(tmp_path / "step-7")


def test_latest_goes_by_step_and_not_by_time(tmp_path):
    for step in (9, 10, 100, 20):
        save(tmp_path, step)
    for age, step in enumerate((9, 20, 10, 100)):
        for path in [tmp_path / f"step-{step}", *(tmp_path / f"step-{step}").rglob("*")]:
            os.utime(path, (1e9 - 1000 * age, 1e9 - 1000 * age))
    found = latest(tmp_path)
    assert found.manifest.step == 100
    assert found.quarantined == []


@pytest.mark.parametrize("root", ["missing", "empty"])
def test_latest_of_nothing_is_nothing(tmp_path, root):
    (tmp_path / "empty").mkdir()
    found = latest(tmp_path / root)
    assert (found.manifest, found.quarantined) == (None, [])


def test_latest_passes_over_damaged_ones_and_says_why(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step)
    flip(tmp_path / "step-30" / "state.safetensors", 5, 3)
    (tmp_path / "step-20" / "state.json").unlink()
    found = latest(tmp_path)
    assert found.manifest.step == 10
    assert [path for path, _ in found.quarantined] == [
        tmp_path / "quarantine" / "step-30",
        tmp_path / "quarantine" / "step-20",
    ]
    assert "state.safetensors: its bytes" in found.quarantined[0][1]
    assert "state.json: missing" in found.quarantined[1][1]
    assert latest(tmp_path).quarantined == []


def test_a_second_one_in_quarantine_keeps_the_first(tmp_path):
    for content in ("first", "second"):
        (save(tmp_path, 10) / "state.json").write_text(content)
        latest(tmp_path)
    quarantine = tmp_path / "quarantine"
    assert (quarantine / "step-10" / "state.json").read_text() == "first"
    assert (quarantine / "step-10.1" / "state.json").read_text() == "second"


def test_names_that_are_no_steps_are_left_alone(tmp_path):
    save(tmp_path, 10)
    for name in ("step-", "step-0099", "step-99.bak", "best", ".tmp-step-99-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-99").write_text("a file")
    assert latest(tmp_path).manifest.step == 10
    assert (tmp_path / "step-99.bak").is_dir()


def test_a_newer_format_is_refused_and_not_put_in_quarantine(tmp_path):
    save(tmp_path, 10)
    folder = save(tmp_path, 20)
    record = json.loads((folder / "MANIFEST.json").read_text())
    record.pop("sha256")
    (folder / "MANIFEST.json").write_bytes(manifests.manifest_text({**record, "format": 2}))
    with pytest.raises(CheckpointError, match="got format 2; expected format 1"):
        latest(tmp_path)
    assert folder.is_dir()


def test_the_checkpoint_room_saves_without_torch():
    code = "import sys, tunesmith.checkpoint.commit, tunesmith.checkpoint.retain;" + (
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
