"""Merges an adapter into its base: W' = W + s B A, computed and stored in fp32."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoTokenizer
from transformers.utils import logging

from tunesmith.errors import CommandError, RunError
from tunesmith.export.certificate import Certificate, compare
from tunesmith.export.reload import answer, load_artefact
from tunesmith.runs.durable import disk_errors

NUM_TOKENS = 32
"""Greedy tokens compared after each prompt."""
TOLERANCE = 1e-3
"""Largest difference between fp32 logits of adapter and merged model: the sums are only taken in
another order."""


def merge(adapter: Path, target: Path, prompts: list[list[int]]) -> Certificate:
    """Write the merged model of an adapter folder into `target` and compare it with the adapter.

    Args:
        adapter: A PEFT adapter folder that names its base.
        target: New or empty folder.
        prompts: Token ids that both answer, in fp32.

    Raises:
        CommandError: `target` holds something already.
        RunError: The merged model answers differently; nothing is left in `target`.
        MachineError: The disk refused.
    """
    require_free(target)
    logging.disable_progress_bar()
    model = load_artefact(adapter, torch.float32)
    expected = answer(model, prompts, NUM_TOKENS)
    merged = model.merge_and_unload()
    temp = target.with_name(f".{target.name}.tmp")
    with disk_errors(target):
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir(parents=True)
        merged.save_pretrained(temp)
        AutoTokenizer.from_pretrained(adapter).save_pretrained(temp)
    del model, merged
    got = answer(load_artefact(temp, torch.float32), prompts, NUM_TOKENS)
    certificate = compare(expected, got, TOLERANCE)
    if not certificate.ok:
        shutil.rmtree(temp)
        raise RunError(
            str(target),
            got=f"a merged model that differs: {certificate}",
            expected=f"equal greedy tokens and logits within {TOLERANCE}",
        )
    with disk_errors(target):
        if target.exists():
            target.rmdir()
        temp.rename(target)
        certificate_path = target / "certificate.json"
        certificate_path.write_text(json.dumps(asdict(certificate), indent=1) + "\n")
    return certificate


def require_free(target: Path) -> None:
    """Refuse a folder to export into that holds something; CommandError."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CommandError(
            str(target), got="something that is there already", expected="a new or empty folder"
        )
