"""What is refused before anything of a base is opened: code, pickle, and weights we cannot train.

Loading a base must not run anything that came with it. Safetensors and GGUF hold numbers only;
pickle runs code when it is loaded, and some keys of a config name Python files or kernels to fetch.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from tunesmith.errors import ModelError
from tunesmith.models.safetensors_header import check_safetensors_header

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIGS = (
    "config.json",
    "tokenizer_config.json",
    "generation_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
)
"""The files that transformers reads settings from."""

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

MAX_JSON_BYTES = 256 * 2**20
"""Of any JSON file; the largest tokenizers have 35 MB."""
MAX_CONFIG_BYTES = 16 * 2**20
"""Of a file of settings; an index of 10,000 tensors has about 1 MB."""

PICKLE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".distcp")
CODE_KEYS = frozenset(
    {
        "auto_map",
        "auto_mapping",
        "custom_generate",
        "custom_pipelines",
        "kernel_config",
        "kernels",
        "trust_remote_code",
        "use_kernels",
    }
)
"""Keys that name code, or ask for it; false, null and empty say nothing."""

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
    for name in weight_names(folder):
        check_safetensors_header(folder / name)


def check_adapter(folder: Path) -> None:
    """Refuse a folder of a PEFT adapter that names code or has no safetensors.

    PEFT itself would fall back to a pickle beside its config.

    Raises:
        ModelError: A key that names code, weights of another kind, or a damaged header.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            str(folder), got=f"no {ADAPTER_WEIGHTS}", expected="an adapter as safetensors"
        )
    _check_code(folder / ADAPTER_CONFIG)
    for name in CONFIGS:
        if (folder / name).is_file():
            _check_code(folder / name)
    check_safetensors_header(folder / ADAPTER_WEIGHTS)


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
    if (folder / "tokenizer.json").is_file():
        _check_size(folder / "tokenizer.json", MAX_JSON_BYTES)
    config = read_json(folder / "config.json")
    if quantised := config.get("quantization_config"):
        named = quantised.get("quant_method") if isinstance(quantised, dict) else None
        method = named or "unknown"
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
    return sorted(set(_weight_map(folder).values()))


def read_json(path: Path) -> dict:
    """The JSON object in `path`.

    Raises:
        ModelError: The file is no JSON object, or too large or too deep for one.
    """
    _check_size(path, MAX_CONFIG_BYTES)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        got = f"a file that cannot be read ({error.strerror})"
        raise ModelError(str(path), got=got, expected="a JSON object") from None
    except RecursionError:
        got = "JSON that is nested too deeply"
        raise ModelError(str(path), got=got, expected="a JSON object") from None
    except ValueError as error:
        raise ModelError(
            str(path), got=f"no valid JSON ({error})", expected="a JSON object"
        ) from None
    if not isinstance(data, dict):
        raise ModelError(str(path), got=f"a JSON {type(data).__name__}", expected="a JSON object")
    return data


def _check_size(path: Path, limit: int) -> None:
    """Raises before a file is read that is larger than any of its kind."""
    size = path.stat().st_size if path.is_file() else 0
    if size > limit:
        raise ModelError(
            str(path), got=f"{size:,} bytes", expected=f"at most {limit:,} in such a file"
        )


def _weight_map(folder: Path) -> dict[str, str]:
    """By tensor, the file that holds it."""
    found = read_json(folder / INDEX).get("weight_map", {})
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise ModelError(
            f"{folder}/{INDEX}: weight_map", got="no object of file names", expected="one"
        )
    return found


def _check_index(folder: Path) -> None:
    names = set(_weight_map(folder).values())
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


def _settings(data: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every (dotted key, value) of nested objects and lists, outer before inner."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield f"{prefix}{key}", value
            yield from _settings(value, f"{prefix}{key}.")
    elif isinstance(data, list):
        for value in data:
            yield from _settings(value, prefix)


def _names_code(dotted: str, value: object) -> bool:
    key = dotted.rpartition(".")[2]
    if key in CODE_KEYS:
        return bool(value)
    if key == "transformers_weights":
        return not str(value).endswith((".safetensors", ".safetensors.index.json"))
    texts = [text for text in _flat(value) if isinstance(text, str)]
    if key.endswith("_internal") and "implementation" in dotted:
        # transformers' own notes of what it chose; in a file they only ever bypassed a check
        return value not in (None, "eager", "sdpa")
    # transformers fetches and runs a kernel when an implementation is named like a hub id
    if "implementation" in dotted and any("/" in text or ":" in text for text in texts):
        return True
    return any(_PYTHON_FILE.fullmatch(text) for text in texts)


def _flat(value: object) -> list[object]:
    """The parts of nested lists; of objects their values are looked at under their own keys."""
    if isinstance(value, list):
        return [part for inner in value for part in _flat(inner)]
    return [value]
