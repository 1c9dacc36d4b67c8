"""Writes an export, has it read back by a stranger, and puts it in place only if it passes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from tunesmith.errors import CommandError, RunError
from tunesmith.export import stranger
from tunesmith.export.certificate import Certificate, compare
from tunesmith.export.differ import differ
from tunesmith.export.ollama import Parity
from tunesmith.export.reload import Holding
from tunesmith.export.tolerance import Tolerance
from tunesmith.export.trained import Trained
from tunesmith.runs.durable import disk_errors

CERTIFICATE = "certificate.json"
IN_FP32 = Holding(torch.float32)
WITH_QUANTIZED = "with the base as it was quantised in training"
"""Name in `Certificate.also` of the export beside the model that was trained and measured."""


@dataclass(frozen=True, slots=True)
class Form:
    """One way to export.

    Attributes:
        write: Fills an empty folder with the trained model; gives how its template compares with
            that of training, where it has one of its own.
        tolerance: How far the result may be from it.
        held: How the other process holds its weights.
        as_quantized: Whether that is how the base was quantised in training.
    """

    write: Callable[[Trained, Path], Parity | None]
    tolerance: Tolerance
    held: Holding = IN_FP32
    as_quantized: bool = False


def ship(
    trained: Trained, target: Path, form: Form, describe: Callable[[Path, Certificate], None]
) -> Certificate:
    """Export the trained model into `target`, whole and compared, or not at all.

    Args:
        trained: Loaded and asked; its memory is let go here.
        target: New or empty folder.
        form: What to write and how near it must be.
        describe: Writes the model card into the folder.

    Raises:
        CommandError: `target` holds something already.
        ModelError: A model or tokenizer that the form cannot hold.
        RunError: The export answers otherwise; nothing is left in `target`.
        MachineError: The disk refused.
    """
    require_free(target)
    temp = target.with_name(f".{target.name}.tmp")
    try:
        with disk_errors(target):
            shutil.rmtree(temp, ignore_errors=True)
            temp.mkdir(parents=True)
            template = form.write(trained, temp)
        certificate = replace(_certified(trained, temp, form, target), template=template)
        with disk_errors(target):
            (temp / CERTIFICATE).write_text(json.dumps(asdict(certificate), indent=1) + "\n")
            describe(temp, certificate)
            if target.exists():
                target.rmdir()
            temp.rename(target)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return certificate


def require_free(target: Path) -> None:
    """Refuse a folder to export into that holds something; CommandError."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CommandError(
            str(target),
            got="something that is there already",
            expected="a new or empty folder",
            hint="name another folder with --out",
        )


def _certified(trained: Trained, folder: Path, form: Form, target: Path) -> Certificate:
    expected = trained.reply
    if form.as_quantized and trained.quantized_reply:
        expected = trained.quantized_reply
    device = next(trained.model.parameters()).device
    del trained.model  # two models at once are one too many on a small machine
    told = stranger.ask(folder, trained.asked, form.held, device)
    certificate = compare(trained.asked, expected, told, form.tolerance)
    if trained.quantized_reply and not form.as_quantized:
        beside = differ(trained.quantized_reply, told.reply)
        certificate = replace(certificate, also={WITH_QUANTIZED: beside})
    if not certificate.ok:
        raise RunError(
            str(target),
            got=f"an export that differs from the trained model: {'; '.join(certificate.faults())}",
            expected="the same answers within the tolerance; nothing was written",
        )
    return certificate
