"""Bases and adapters made to run code: each is refused, and nothing of it ever runs.

Every payload would touch a canary file when it is executed, unpickled or imported.
"""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tunesmith.errors import ModelError
from tunesmith.models.load import load
from tunesmith.models.refuse import check_adapter
from tunesmith.models.resolve import resolve
from tunesmith.testing.tiny import tiny_base

NAMED = {"AutoModelForCausalLM": "modeling_evil.Evil", "AutoConfig": "modeling_evil.EvilConfig"}
REPO = "someone/evil"

CODE: dict[str, list[dict]] = {
    "config.json": [
        {"auto_map": NAMED},
        {"auto_map": {"AutoConfig": f"{REPO}--modeling_evil.EvilConfig"}},
        {"text_config": {"auto_map": NAMED}},
        {"vision_config": {"inner": {"auto_map": NAMED}}},
        {"layers": [{"deep": [{"auto_map": NAMED}]}]},
        {"layers": [[{"auto_map": NAMED}]]},
        {"trust_remote_code": True},
        {"text_config": {"trust_remote_code": True}},
        {"custom_pipelines": {"text": {"impl": "modeling_evil.Pipe", "pt": ["AutoModel"]}}},
        {"_attn_implementation": REPO},
        {"_attn_implementation": f"{REPO}@main"},
        {"_attn_implementation": f"{REPO}:forward"},
        {"attn_implementation": REPO},
        {"_attn_implementation_internal": REPO},
        {"_attn_implementation_internal": "paged|evil"},
        {"_attn_implementation_autoset": REPO},
        {"text_config": {"_attn_implementation_internal": REPO}},
        {"_experts_implementation": REPO},
        {"_experts_implementation_internal": REPO},
        {"attn_implementation": {"text_config": f"paged|{REPO}"}},
        {"attn_implementation": [[REPO]]},
        {"kernels": {"rms_norm": REPO}},
        {"kernel_config": {"RMSNorm": f"{REPO}:Norm"}},
        {"use_kernels": True},
        {"text_config": {"kernels": [REPO]}},
        {"custom_generate": REPO},
        {"modeling_file": "modeling_evil.py"},
        {"files": ["a/b/modeling_evil.py"]},
        {"files": [["modeling_evil.py"]]},
        {"transformers_weights": "weights.bin"},
        {"transformers_weights": "../evil.pt"},
        {"auto_mapping": {"base_model_class": "Evil", "parent_library": "modeling_evil"}},
    ],
    "tokenizer_config.json": [
        {"auto_map": {"AutoTokenizer": ["modeling_evil.Evil", None]}},
        {"auto_map": {"AutoTokenizer": [None, f"{REPO}--modeling_evil.Evil"]}},
        {"init_inputs": [{"auto_map": NAMED}]},
        {"trust_remote_code": True},
        {"tokenizer_file": "modeling_evil.py"},
    ],
    "generation_config.json": [
        {"custom_generate": REPO},
        {"custom_generate": "generate.py"},
        {"auto_map": NAMED},
        {"compile_config": {"kernels": REPO}},
    ],
    "processor_config.json": [{"auto_map": {"AutoProcessor": "modeling_evil.Evil"}}],
    "preprocessor_config.json": [{"auto_map": {"AutoImageProcessor": "modeling_evil.Evil"}}],
    "special_tokens_map.json": [{"auto_map": NAMED}],
    "chat_template.json": [{"chat_template": "x", "auto_map": NAMED}],
}
SETTINGS = [(file, values) for file, several in CODE.items() for values in several]


class Touch:
    """Unpickled, it makes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return Path.touch, (self.canary,)


def zipped(canary: Path) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Touch(canary)))
    return held.getvalue()


PICKLES: dict[str, Callable[[Path], bytes]] = {
    **{
        f"protocol {n}": (lambda canary, n=n: pickle.dumps(Touch(canary), protocol=n) + bytes(64))
        for n in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "zip": zipped,
    "header, then pickle": lambda canary: (
        (2).to_bytes(8, "little") + b"{}" + pickle.dumps(Touch(canary))
    ),
}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("made") / "base")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def base(made_once: Path, tmp_path: Path, canary: Path) -> Path:
    """A sound base beside a Python file that touches the canary when it is imported."""
    folder = Path(shutil.copytree(made_once, tmp_path / "base"))
    code = f"from pathlib import Path\nPath({str(canary)!r}).touch()\nclass Evil: ...\n"
    for name in ("modeling_evil.py", "generate.py", "__init__.py"):
        (folder / name).write_text(code)
    return folder


def edit(path: Path, values: dict) -> None:
    data = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(data | values))


@pytest.mark.parametrize(("file", "values"), SETTINGS, ids=lambda v: json.dumps(v)[:60])
def test_settings_that_name_code_are_refused(
    base: Path, canary: Path, file: str, values: dict
) -> None:
    edit(base / file, values)
    with pytest.raises(ModelError, match="names code to run with the model") as got:
        load(resolve(str(base), None), torch.float32)
    assert got.value.where.startswith(f"{base / file}: ")
    assert not canary.exists()


def test_code_that_no_setting_names_is_never_imported(base: Path, canary: Path) -> None:
    load(resolve(str(base), None), torch.float32)
    assert not canary.exists()


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.pt", "m.gguf"])
def test_a_pickle_under_any_name_is_refused(base: Path, canary: Path, kind: str, name: str) -> None:
    (base / "model.safetensors").unlink()
    (base / name).write_bytes(PICKLES[kind](canary))
    where = base / name if name == "m.gguf" else base
    with pytest.raises(ModelError):
        load(resolve(str(where), None), torch.float32)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin", "rng_state.pth"])
def test_a_pickle_beside_the_weights_is_never_opened(base: Path, canary: Path, name: str) -> None:
    (base / name).write_bytes(pickle.dumps(Touch(canary)))
    load(resolve(str(base), None), torch.float32)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b"[]", "a JSON list"),
        (b"\xff\xfe", "no valid JSON"),
        (b'{"model_type": "llama"' + b" " * (16 * 2**20) + b"}", "16,777,"),
        (b'{"quantization_config": ["gptq"]}', "already quantised"),
    ],
)
def test_a_config_that_is_none_is_refused(base: Path, content: bytes, says: str) -> None:
    (base / "config.json").write_bytes(content)
    with pytest.raises(ModelError) as got:
        resolve(str(base), None)
    assert says in got.value.got


def test_an_index_of_anything_but_names_is_refused(base: Path) -> None:
    (base / "model.safetensors").rename(base / "a.safetensors")
    for weights in ([], {"a": 1}, {"a": ["a.safetensors"]}):
        (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
        with pytest.raises(ModelError):
            resolve(str(base), None)


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    shutil.copy(base / "model.safetensors", folder / "adapter_model.safetensors")
    return folder


def test_a_sound_adapter_passes(adapter: Path) -> None:
    edit(adapter / "adapter_config.json", {"auto_mapping": None})
    check_adapter(adapter)


@pytest.mark.parametrize(
    "values",
    [
        {"auto_mapping": {"base_model_class": "Evil", "parent_library": "modeling_evil"}},
        {"auto_map": NAMED},
        {"trust_remote_code": True},
        {"runtime_config": {"auto_mapping": {"parent_library": "os"}}},
    ],
)
def test_an_adapter_that_names_code_is_refused(adapter: Path, values: dict) -> None:
    edit(adapter / "adapter_config.json", values)
    with pytest.raises(ModelError, match="names code to run"):
        check_adapter(adapter)


@pytest.mark.parametrize("kind", PICKLES)
def test_an_adapter_of_pickle_is_refused(adapter: Path, canary: Path, kind: str) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(PICKLES[kind](canary))
    with pytest.raises(ModelError):
        check_adapter(adapter)
    weights.rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
        check_adapter(adapter)
    assert not canary.exists()
