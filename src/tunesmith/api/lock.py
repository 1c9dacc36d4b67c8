"""What a run was made with: versions and hashes, so that it can be repeated or doubted."""

import importlib.metadata
import json
import platform
from hashlib import sha256
from typing import Any

import torch

from tunesmith.api.resolve import source_of_rate
from tunesmith.errors import CommandError
from tunesmith.models.base import BaseSource
from tunesmith.models.kernels import build as kernels
from tunesmith.recipe import Recipe
from tunesmith.runs.folder import RunFolder

PACKAGES = ("tunesmith", "torch", "transformers", "tokenizers", "peft", "safetensors", "numpy")


def describe(recipe: Recipe, base: BaseSource, data: dict[str, str]) -> dict[str, Any]:
    """The content of `lock.json`.

    Args:
        recipe: Resolved.
        base: The base in use.
        data: SHA-256 of each data file by path.
    """
    return {
        "recipe_sha256": sha256(json.dumps(plain(recipe), sort_keys=True).encode()).hexdigest(),
        "base": {
            "id": base.id,
            "sha256": base.sha256,
            "revision": base.revision,
            "quantize": recipe.model.quantize,
        },
        "data": dict(sorted(data.items())),
        "learning_rate": {
            "value": recipe.train.learning_rate,
            "source": source_of_rate(recipe),
        },
        "versions": {name: importlib.metadata.version(name) for name in _packages(recipe)},
        "machine": {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "kernels": kernels.describe(),
        },
    }


def _packages(recipe: Recipe) -> tuple[str, ...]:
    return (*PACKAGES, "bitsandbytes") if recipe.model.quantize == "nf4" else PACKAGES


def plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON data, without where its folder is: a moved folder is the same run."""
    data = recipe.model_dump(mode="json")
    data.pop("output")
    return data


def require_same(folder: RunFolder, now: dict[str, Any]) -> list[str]:
    """Compare with the `lock.json` of a run that is to go on.

    Returns:
        What differs without forbidding it: versions and machine, which cost the equality of bits.

    Raises:
        CommandError: The base or a data file has changed since.
    """
    before = json.loads(folder.lock.read_text(encoding="utf-8"))
    for key in ("base", "data"):
        changed = differences(before[key], now[key])
        if changed:
            raise CommandError(
                str(folder.path),
                got=f"another {key} than the run began with: {'; '.join(changed)}",
                expected=f"the same {key}",
                hint="bring the files back, or start a new run with tunesmith train",
            )
    return differences(
        {k: before[k] for k in ("versions", "machine")},
        {k: now[k] for k in ("versions", "machine")},
    )


def differences(before: Any, now: Any, key: str = "") -> list[str]:
    """Lines `a.b: old -> new` for every value that differs between two JSON trees."""
    if isinstance(before, dict) and isinstance(now, dict):
        lines = []
        for name in sorted(before.keys() | now.keys()):
            inner = f"{key}.{name}" if key else name
            lines += differences(before.get(name), now.get(name), inner)
        return lines
    return [] if before == now else [f"{key}: {json.dumps(before)} -> {json.dumps(now)}"]
