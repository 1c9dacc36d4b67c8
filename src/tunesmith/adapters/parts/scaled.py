"""An adapter whose update is multiplied by a number: W + k s B A instead of W + s B A."""

import json
import shutil
from pathlib import Path
from typing import Any

from tunesmith.errors import CommandError
from tunesmith.models.refuse import ADAPTER_CONFIG

ALPHAS = {
    "LORA": ("lora_alpha", "alpha_pattern"),
    "LOHA": ("alpha", "alpha_pattern"),
    "LOKR": ("alpha", "alpha_pattern"),
}
"""For each kind of PEFT whose update is a multiple of alpha, the keys that hold alphas."""


def write_scaled(source: Path, factor: float, target: Path) -> None:
    """Copy an adapter folder with its update multiplied by `factor`; exact, alpha says it.

    Args:
        source: Folder of an adapter in PEFT's format.
        factor: 0 gives the base, 1 what was trained.
        target: New folder.

    Raises:
        CommandError: The adapter's effect is not a multiple of a number that it holds.
    """
    config = json.loads((source / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    kind = str(config.get("peft_type"))
    if kind not in ALPHAS or config.get("use_dora") or config.get("trainable_token_indices"):
        raise CommandError(
            "--scale",
            got=f"an adapter of kind {kind.lower()}{_besides(config)}",
            expected=f"one of {', '.join(sorted(ALPHAS)).lower()}, without DoRA and added tokens",
        )
    alpha, pattern = ALPHAS[kind]
    config[alpha] *= factor
    config[pattern] = {name: value * factor for name, value in (config[pattern] or {}).items()}
    shutil.copytree(source, target)
    text = json.dumps(config, indent=2, sort_keys=True)
    (target / ADAPTER_CONFIG).write_text(f"{text}\n", encoding="utf-8")


def _besides(config: dict[str, Any]) -> str:
    found = {"DoRA": config.get("use_dora"), "tokens": config.get("trainable_token_indices")}
    return "".join(f" with {what}" for what, there in found.items() if there)
