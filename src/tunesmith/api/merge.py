"""`merge`: several trained adapters of one base made into one, compared and described."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from peft import PeftConfig
from transformers import PreTrainedTokenizerFast

from tunesmith.adapters.parts import files
from tunesmith.adapters.parts.combine import Mixture, combine, require_sound
from tunesmith.adapters.parts.earlier import config_in, folder_of
from tunesmith.api.shown import general
from tunesmith.errors import CommandError
from tunesmith.export.certificate import Certificate
from tunesmith.export.forms import copy_tokenizer
from tunesmith.export.ship import Form, require_free, ship
from tunesmith.export.tolerance import as_trained
from tunesmith.export.trained import Trained, ask_trained
from tunesmith.models.load import load, quiet
from tunesmith.models.resolve import resolve


@dataclass(frozen=True)
class Manner:
    """How adapters are mixed.

    Attributes:
        kind: One of `combine.KINDS`.
        density: Share of the numbers that is kept, by those kinds that drop some.
        seed: Of what is dropped at random.
    """

    kind: str = "cat"
    density: float = 0.5
    seed: int = 0


def merge(
    paths: Sequence[str], weights: Sequence[float], path: str | Path, manner: Manner | None = None
) -> Path:
    """Write one adapter that is the weighted mixture of several.

    Args:
        paths: Runs, or folders of LoRA adapters, of one base.
        weights: Of each of them.
        path: New or empty folder.
        manner: How they are mixed; the exact weighted sum when None.

    Returns:
        The folder: PEFT's format, the first one's tokenizer, `certificate.json`, a page.

    Raises:
        CommandError: Adapters that cannot be mixed so, or a folder in use.
        RunError: What was written answers otherwise than the mixture in memory.
        MachineError: The disk refused.
    """
    target, manner = Path(path), manner or Manner()
    folders = [folder_of(each, "merge") for each in paths]
    mixture = Mixture(folders, weights, manner.kind, manner.density, manner.seed)
    require_sound(mixture)
    require_free(target)
    base_id = _base_of(folders)
    with quiet():
        base = load(resolve(base_id, None), torch.float32)
        model, saved = combine(base.model, mixture)
        saved.config["base_model_name_or_path"] = base_id
        trained = _asked(model, folders[0])
        del model, base

    def write(trained: Trained, folder: Path) -> None:
        files.keep(saved, folder)
        copy_tokenizer(folders[0], folder)

    form = Form(write, as_trained(torch.float32))
    ship(trained, target, form, partial(_describe, mixture, base_id))
    return target


def _asked(model: torch.nn.Module, folder: Path) -> Trained:
    with torch.no_grad():
        shown = general(PreTrainedTokenizerFast.from_pretrained(folder))
        return ask_trained(model, folder, shown, None)


def _base_of(folders: Sequence[Path]) -> str:
    """The base that all of them name."""
    named: list[PeftConfig] = [config_in(folder) for folder in folders]
    bases = {config.base_model_name_or_path for config in named}
    if len(bases) > 1:
        raise CommandError(
            "merge", got=f"adapters of {', '.join(map(str, sorted(bases)))}", expected="one base"
        )
    return str(bases.pop())


def _describe(mixture: Mixture, base_id: str, folder: Path, certificate: Certificate) -> None:
    pairs = zip(mixture.weights, mixture.folders, strict=True)
    lines = [f"- {weight:g} x `{source}`" for weight, source in pairs]
    text = (
        f"---\nlibrary_name: peft\ntags: [tunesmith, lora]\n---\n\n# A mixture of adapters\n\n"
        f"Mixed by `{mixture.kind}` over `{base_id}`:\n\n" + "\n".join(lines) + "\n\n"
        f"Reloaded in a fresh process, its logits were at most "
        f"{certificate.max_logit_difference:.2g} from those of the mixture in memory, on "
        f"{certificate.prompts} prompts.\n"
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
