"""What is refused before anything of a base is opened: code, pickle, and weights we cannot train.

Loading a base must not run anything that came with it. Safetensors and GGUF hold numbers only;
pickle runs code when it is loaded, and some keys of a config name Python files or kernels to fetch.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from tunesmith.errors import ModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIGS = ("config.json", "tokenizer_config.json", "generation_config.json")
"""The files that transformers reads settings from."""

PICKLE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".distcp")
CODE_KEYS = frozenset(
    {"auto_map", "custom_generate", "custom_pipelines", "kernel_config", "kernels"}
)

_PYTHON_FILE = re.compile(r"[\w./\\-]+\.py")
_DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
_CONVERT = (
    "load it once where you trust it and write safetensors: "
    "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
)


def check_names(where: str, names: Iterable[str]) -> None:
    """Refuse a base by the names of its files alone, before any is downloaded or opened.

    Args:
        where: Folder or hub id, for the message.
        names: File names; those in sub-folders are not looked at.

    Raises:
        ModelError: An adapter, pickle weights only, a distributed checkpoint, or no weights.
    """
    top = sorted(name for name in names if PurePath(name).name == name)
    if "adapter_config.json" in top:
        raise ModelError(
            where,
            got="an adapter (it has adapter_config.json)",
            expected="a whole model",
            hint="name the base it was trained on, or merge the two first",
        )
    if any(_DISTRIBUTED.fullmatch(name) for name in top):
        raise ModelError(
            where,
            got="a distributed checkpoint (shard-*.safetensors)",
            expected=f"{WEIGHTS} or {INDEX}",
        )
    if WEIGHTS in top or INDEX in top:
        return
    pickled = [name for name in top if name.endswith(PICKLE) and name != "training_args.bin"]
    if pickled:
        raise ModelError(
            where,
            got=f"pickle weights ({', '.join(pickled[:3])}); pickle can run code when it is loaded",
            expected="safetensors",
            hint=_CONVERT,
        )
    raise ModelError(where, got=f"no {WEIGHTS} and no {INDEX}", expected="one of the two")


def check_folder(folder: Path) -> None:
    """Refuse a local folder whose files name code, or whose weights are incomplete or quantised.

    Raises:
        ModelError: As `check_names`; or no config.json, a key that names code, a shard that is
            missing or no safetensors file, or weights that are quantised already.
    """
    check_names(str(folder), [entry.name for entry in folder.iterdir()])
    check_settings(folder)
    if not (folder / WEIGHTS).is_file():
        _check_index(folder)


def check_settings(folder: Path) -> None:
    """Refuse a folder by its JSON files alone; the weights need not be there yet.

    Raises:
        ModelError: No config.json, a key that names code, or weights that are quantised already.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(str(folder), got="no config.json", expected="a model folder")
    for name in CONFIGS:
        if (folder / name).is_file():
            _check_code(folder / name)
    config = read_json(folder / "config.json")
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "unknown")
        raise ModelError(
            f"{folder}/config.json: quantization_config",
            got=f"weights already quantised ({method})",
            expected="fp32, fp16 or bf16 weights",
            hint="use the unquantised model of the same name",
        )


def weight_names(folder: Path) -> list[str]:
    """Names of the safetensors files that transformers reads in `folder`, sorted."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    return sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))


def read_json(path: Path) -> dict:
    """The JSON object in `path`.

    Raises:
        ModelError: The file is no JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(
            str(path), got=f"no valid JSON ({error})", expected="a JSON object"
        ) from None
    if not isinstance(data, dict):
        raise ModelError(str(path), got=f"a JSON {type(data).__name__}", expected="a JSON object")
    return data


def _check_index(folder: Path) -> None:
    names = set(read_json(folder / INDEX).get("weight_map", {}).values())
    strange = sorted(n for n in names if PurePath(n).name != n or not n.endswith(".safetensors"))
    if strange:
        raise ModelError(
            f"{folder}/{INDEX}", got=f"weights in {strange[0]!r}", expected="safetensors beside it"
        )
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing or not names:
        raise ModelError(
            f"{folder}/{INDEX}",
            got=f"shards that are not there: {', '.join(missing[:5])}" if missing else "no shards",
            expected="every shard it lists",
            hint="copy or download the folder again",
        )


def _check_code(path: Path) -> None:
    for key, value in _settings(read_json(path)):
        if _names_code(key, value):
            raise ModelError(
                f"{path}: {key}",
                got=f"{json.dumps(value)[:100]}, which names code to run with the model",
                expected="a model that transformers itself defines",
                hint="Tunesmith never runs code from a model repository; choose another base",
            )


def _settings(data: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every (dotted key, value) of nested objects, outer before inner."""
    for key, value in data.items():
        yield f"{prefix}{key}", value
        nested = value if isinstance(value, list) else [value]
        for entry in nested:
            if isinstance(entry, dict):
                yield from _settings(entry, f"{prefix}{key}.")


def _names_code(dotted: str, value: object) -> bool:
    key = dotted.rpartition(".")[2]
    if key in CODE_KEYS:
        return bool(value)
    if key == "transformers_weights":
        return not str(value).endswith((".safetensors", ".safetensors.index.json"))
    texts = [text for text in _flat(value) if isinstance(text, str)]
    # transformers fetches and runs a kernel when an implementation is named like a hub id
    if "implementation" in dotted and any("/" in text or ":" in text for text in texts):
        return True
    return any(_PYTHON_FILE.fullmatch(text) for text in texts)


def _flat(value: object) -> list[object]:
    if isinstance(value, list):
        return value
    return [value]
