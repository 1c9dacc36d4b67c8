"""Finding a base, and refusing what must not be loaded."""

import json
import shutil
import socket
import time
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants

from tunesmith.errors import MachineError, ModelError
from tunesmith.models import hub
from tunesmith.models.resolve import resolve
from tunesmith.testing.fake_hub import COMMIT, fake_hub
from tunesmith.testing.tiny import tiny_base
from tunesmith.testing.tiny_gguf import tiny_gguf


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("made") / "base")


@pytest.fixture
def folder(made_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_once, tmp_path / "base"))


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def edit(path: Path, **values: object) -> None:
    data = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(data | values))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        resolve(str(folder), None)
    return str(caught.value)


def test_folder_is_found(folder: Path) -> None:
    source = resolve(str(folder), None)
    assert (source.path, source.gguf, source.revision) == (folder, None, None)
    assert source.id == str(folder)


def test_home_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve("~/base", None).path == folder


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_sha256_changes_with_each_file(folder: Path, name: str) -> None:
    before = resolve(str(folder), None).sha256
    content = (folder / name).read_bytes()
    other = content + b" " if name.endswith(".json") else content[:-1] + bytes([content[-1] ^ 1])
    (folder / name).write_bytes(other)
    assert resolve(str(folder), None).sha256 != before


def test_sha256_is_of_the_content_alone(folder: Path) -> None:
    before = resolve(str(folder), None).sha256
    copy = Path(shutil.copytree(folder, folder.parent / "copy"))
    (copy / "README.md").write_text("another file")
    assert resolve(str(copy), None).sha256 == before


def test_gguf_is_found_as_file_and_as_the_only_one_in_a_folder(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "m.gguf")
    by_file, by_folder = resolve(str(path), None), resolve(str(tmp_path), None)
    assert (by_file.path, by_file.gguf) == (tmp_path, "m.gguf")
    assert (by_folder.path, by_folder.gguf) == (tmp_path, "m.gguf")
    assert by_file.sha256 == by_folder.sha256


def test_several_ggufs_are_not_guessed_between(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    text = refusal(tmp_path)
    assert "2 GGUF files (a.gguf, b.gguf)" in text
    assert f"hint: name the file itself: {tmp_path / 'a.gguf'}" in text


def test_part_of_a_split_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-00003.gguf"
    path.write_bytes(b"GGUF")
    assert "one part of a split GGUF" in refusal(path)


def test_other_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04")
    assert "a file that is no GGUF" in refusal(path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "m.pt", "m.pth", "m.ckpt", "m.pkl"])
def test_pickle_is_refused_with_the_reason(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    text = refusal(folder)
    assert f"pickle weights ({name}); pickle can run code when it is loaded" in text
    assert "expected safetensors" in text
    assert "save_pretrained" in text


def test_pickle_beside_safetensors_is_left_alone(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert resolve(str(folder), None).path == folder


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "modeling_x.XModel"}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tokenization_x.X", None]}}),
        ("config.json", {"_attn_implementation_internal": "someone/kernel"}),
        ("config.json", {"attn_implementation": {"text": "someone/kernel@main:fn"}}),
        ("config.json", {"text_config": {"_attn_implementation": "someone/kernel"}}),
        ("config.json", {"experts_implementation": "someone/experts"}),
        ("config.json", {"kernel_config": {"RMSNorm": "someone/norm:Norm"}}),
        ("config.json", {"modeling_file": "modeling_x.py"}),
        ("config.json", {"text_config": {"parts": ["a/modeling_x.py"]}}),
        ("config.json", {"transformers_weights": "weights.bin"}),
        ("generation_config.json", {"custom_generate": "someone/decoding"}),
    ],
)
def test_code_is_refused_with_file_and_key(
    folder: Path, file: str, values: dict[str, object]
) -> None:
    edit(folder / file, **values)
    text = refusal(folder)
    assert f"{folder / file}: {next(iter(values))}" in text
    assert "names code to run with the model" in text
    assert "never runs code from a model repository" in text


def test_names_that_are_no_code_pass(folder: Path) -> None:
    edit(folder / "config.json", auto_map={}, _attn_implementation="sdpa", note="see x.py there")
    (folder / "modeling_x.py").write_text("raise SystemExit")
    assert resolve(str(folder), None).path == folder


def test_quantised_weights_are_refused(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "gptq"})
    assert "weights already quantised (gptq)" in refusal(folder)


def test_adapter_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    assert "an adapter (it has adapter_config.json)" in refusal(folder)


def test_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors and no model.safetensors.index.json" in refusal(folder)


def test_model_one_folder_deeper_is_hinted_at(folder: Path) -> None:
    assert f"hint: did you mean {folder}?" in refusal(folder.parent)


def test_damaged_config_is_named(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    assert f"{folder / 'config.json'}: got no valid JSON" in refusal(folder)


@pytest.mark.parametrize(
    ("shards", "expected"),
    [
        (["model-1.safetensors"], "shards that are not there: model-1.safetensors"),
        (["../x.safetensors"], "weights in '../x.safetensors'"),
        (["pytorch_model.bin"], "weights in 'pytorch_model.bin'"),
        ([], "no shards"),
    ],
)
def test_index_must_list_safetensors_beside_it(
    folder: Path, shards: list[str], expected: str
) -> None:
    (folder / "model.safetensors").unlink()
    weight_map = {f"tensor{i}": name for i, name in enumerate(shards)}
    edit(folder / "model.safetensors.index.json", weight_map=weight_map)
    assert expected in refusal(folder)


def test_missing_base_says_what_was_looked_for_and_names_neighbours(folder: Path) -> None:
    text = refusal(folder.parent / "bse")
    assert f"there is no folder or file {folder.parent / 'bse'}, and it is no hub id" in text
    assert f"hint: did you mean {folder}?" in text


@pytest.mark.parametrize("name", ["", "nosuch", "org/na..me", "org/name.", "a/b/c"])
def test_name_that_can_be_no_base_is_said_to_be_none(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=f"got {name!r}: there is no folder or file"):
        resolve(name, None)


def test_mistyped_starter_is_hinted_at() -> None:
    with pytest.raises(ModelError, match="hint: did you mean starter"):
        resolve("startr", None)


def test_path_with_one_slash_is_no_hub_id_when_its_folder_exists(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent.parent)
    with pytest.raises(ModelError, match="hint: did you mean"):
        resolve(f"{folder.parent.name}/bas", None)


def test_revision_belongs_to_hub_ids_only(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.revision: got 'v1' with model\.base"):
        resolve(str(folder), "v1")


def test_hub_id_is_fetched_once_and_pinned(
    folder: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(b"x")
    (folder / "notes.md").write_text("x")
    kept = {".json", ".safetensors", ".jinja"}
    with fake_hub(folder, "org/name") as server:
        monkeypatch.setattr(hub, "fetch", partial(hub.fetch, endpoint=server.url))
        source = resolve("org/name", None)
        first = sorted(server.downloads)
        again = resolve("org/name", None)
        pinned = resolve("org/name", COMMIT)
        assert sorted(server.downloads) == first
    assert source.revision == COMMIT
    assert first == sorted(path.name for path in folder.iterdir() if path.suffix in kept)
    assert source.sha256 == again.sha256 == pinned.sha256 == resolve(str(folder), None).sha256


def test_hub_base_in_the_cache_needs_no_network(folder: Path, empty_cache: Path) -> None:
    with fake_hub(folder, "org/name") as server:
        first, commit = hub.fetch("org/name", None, server.url)
    again = hub.fetch("org/name", COMMIT, server.url)
    assert (first, commit) == again


def test_code_on_the_hub_is_refused_before_weights_are_downloaded(
    folder: Path, empty_cache: Path
) -> None:
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    with fake_hub(folder, "org/name") as server:
        with pytest.raises(ModelError, match="names code"):
            hub.fetch("org/name", None, server.url)
        assert "model.safetensors" not in server.downloads


def test_pickle_on_the_hub_is_refused_before_anything_is_downloaded(
    folder: Path, empty_cache: Path
) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with fake_hub(folder, "org/name") as server:
        with pytest.raises(ModelError, match=r"hub id org/name: got pickle weights"):
            hub.fetch("org/name", None, server.url)
        assert server.downloads == []


def test_unknown_hub_id_and_revision_are_named(folder: Path, empty_cache: Path) -> None:
    with fake_hub(folder, "org/name") as server:
        with pytest.raises(ModelError, match="'org/other'; there is no such folder here"):
            hub.fetch("org/other", None, server.url)
        with pytest.raises(ModelError, match=r"model\.revision: got 'v9'"):
            hub.fetch("org/name", "v9", server.url)


def test_hub_out_of_reach_is_a_machine_error_in_one_line(empty_cache: Path) -> None:
    started = time.monotonic()
    with pytest.raises(MachineError) as caught:
        hub.fetch("org/name", None, "http://127.0.0.1:9")
    assert time.monotonic() - started < 5
    got, hint = str(caught.value).split("\n")
    assert "no answer from 127.0.0.1:9" in got
    assert "a local folder or .gguf file works" in hint
    assert caught.value.exit_code == 4


def test_hub_that_never_answers_does_not_hang(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "TIMEOUT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(MachineError, match="no answer from 127"):
            hub.fetch("org/name", None, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - started < 5


def test_offline_switch_is_honoured(
    folder: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with fake_hub(folder, "org/name") as server:
        with pytest.raises(MachineError, match="HF_HUB_OFFLINE is set"):
            hub.fetch("org/name", None, server.url)
        assert server.downloads == []


def test_telemetry_is_off(folder: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    with fake_hub(folder, "org/name") as server:
        hub.fetch("org/name", None, server.url)
    assert constants.HF_HUB_DISABLE_TELEMETRY is True
