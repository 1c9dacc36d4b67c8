"""Exports a run: finds its artefact, says what to compare on, and describes the result."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory

from tunesmith.adapters.parts.scaled import write_scaled
from tunesmith.api.resolve import weights_dtype
from tunesmith.api.shown import shown
from tunesmith.config.yaml_file import read_yaml
from tunesmith.data.template import Renderer
from tunesmith.errors import CommandError
from tunesmith.export import card, forms
from tunesmith.export.card import Subject
from tunesmith.export.certificate import Certificate
from tunesmith.export.forms import Artefact
from tunesmith.export.gguf_writer import About
from tunesmith.export.reload import Holding
from tunesmith.export.ship import require_free, ship
from tunesmith.export.trained import ask_trained, load_trained
from tunesmith.models.load import quiet, stop_ids
from tunesmith.models.quantize import NONE
from tunesmith.recipe import Recipe, from_dict
from tunesmith.runs.durable import disk_errors
from tunesmith.runs.folder import RunFolder


@dataclass(frozen=True)
class Wish:
    """What is to be written of a run.

    Attributes:
        to: A key of `forms.TYPES`.
        path: New or empty folder; `export-<to>` in the run folder when None.
        stored: How the weights are stored; None for the usual way of the form.
        scale: Factor on an adapter's update.
    """

    to: str = "merged"
    path: str | Path | None = None
    stored: str | None = None
    scale: float = 1.0


def export_run(folder: RunFolder, wish: Wish) -> Path:
    """Write the weights of a run for another program, compared and described.

    Returns:
        The folder, with `certificate.json` and a model card.

    Raises:
        CommandError: An unknown form, a folder in use, or nothing to export.
        ModelError: A model or tokenizer that the form cannot hold.
        RunError: The export answers otherwise than the trained model; nothing is left of it.
        MachineError: The disk refused.
    """
    source = _artefact(folder)
    stored = forms.check(wish.to, wish.stored, source.is_adapter, source.stands_alone)
    forms.require_writes(wish.to, source)
    target = Path(wish.path) if wish.path else folder.path / f"export-{wish.to}"
    require_free(target)
    if wish.scale == 1.0:
        return _export(folder, source, replace(wish, path=target, stored=stored))
    with TemporaryDirectory() as temp:
        scaled = Path(temp) / source.folder.name
        write_scaled(source.folder, _checked(wish.scale), scaled)
        source = replace(source, folder=scaled)
        return _export(folder, source, replace(wish, path=target, stored=stored))


def _checked(scale: float) -> float:
    if not (isfinite(scale) and scale >= 0):
        raise CommandError("--scale", got=str(scale), expected="a number from 0 on, such as 0.7")
    return scale


def _export(folder: RunFolder, source: Artefact, wish: Wish) -> Path:
    """What is left of `export_run` once the artefact is what it is to be compared with."""
    to, stored, target = wish.to, wish.stored, wish.path
    recipe = from_dict(read_yaml(folder.recipe), str(folder.recipe))
    quantized = _quantized(recipe)
    with quiet():
        model = load_trained(source.folder, quantized)
        tokenizer = source.tokenizer()
        renderer = Renderer(
            tokenizer, stop_ids(model, tokenizer), recipe.data.train_on, recipe.data.max_tokens
        )
        trained = ask_trained(model, source.folder, shown(folder, recipe, renderer), quantized)
        del model
        form = forms.form(to, stored, source, quantized)
        ship(trained, target, form, _describe(folder, recipe, to, stored))
    return target


def describe_artefact(folder: RunFolder, artefact: Path) -> None:
    """Write the model card of the artefact that a run ends with, from its report.

    Raises:
        MachineError: The disk refused.
    """
    recipe = read_yaml(folder.recipe)
    report = json.loads(folder.report_json.read_text(encoding="utf-8"))
    with disk_errors(artefact):
        card.write(artefact, Subject(report, recipe, artefact.name))


def _artefact(folder: RunFolder) -> Artefact:
    source = folder.adapter if folder.adapter.is_dir() else folder.model
    if not source.is_dir() or not folder.report_json.is_file():
        raise CommandError(
            str(folder.path),
            got="a run that has exported nothing",
            expected="a run that succeeded",
            hint=f"tunesmith resume {folder.path}",
        )
    base_id = json.loads(folder.report_json.read_text(encoding="utf-8"))["base"]["id"]
    name = re.sub(r"[^\w.-]+", "-", folder.name)
    return Artefact(source, About(name, card.base_name(base_id), card.licence(base_id)))


def _quantized(recipe: Recipe) -> Holding | None:
    """How the base was quantised in training; None if it was not."""
    if recipe.model.quantize == NONE:
        return None
    return Holding(weights_dtype(recipe), recipe.model.quantize)


def _describe(
    folder: RunFolder, recipe: Recipe, to: str, stored: str
) -> Callable[[Path, Certificate], None]:
    """What writes the model card of an export."""
    report = json.loads(folder.report_json.read_text(encoding="utf-8"))
    plain = recipe.model_dump(mode="json")

    def describe(target: Path, certificate: Certificate) -> None:
        card.write(target, Subject(report, plain, to, stored, certificate))

    return describe
