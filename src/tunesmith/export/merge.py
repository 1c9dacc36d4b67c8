"""Merges an adapter into its base: W' = W + s B A, computed and stored in fp32.

Over a quantised base, W is the weight that the adapter was trained beside: the quantised one, made
wide again. The adapter has learnt to make up for its errors, and would add the opposite of errors
that are not there to the weights as published.
"""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import torch
from transformers import AutoTokenizer
from transformers.utils import logging

from tunesmith.errors import CommandError, RunError
from tunesmith.export.certificate import Certificate, compare, differ
from tunesmith.export.reload import Holding, answer, load_artefact
from tunesmith.models.quantize import dequantize
from tunesmith.runs.durable import disk_errors

NUM_TOKENS = 32
"""Greedy tokens compared after each prompt."""
TOLERANCE = 1e-3
"""Largest difference between fp32 logits of adapter and merged model: the sums are only taken in
another order."""


WITH_QUANTIZED = "with the base as it was quantised in training"
"""Name in `Certificate.also` of the merged model beside the one that was trained and measured."""


def merge(
    adapter: Path, target: Path, prompts: list[list[int]], quantized: Holding | None = None
) -> Certificate:
    """Write the merged model of an adapter folder into `target` and compare it with the adapter.

    Args:
        adapter: A PEFT adapter folder that names its base.
        target: New or empty folder.
        prompts: Token ids that both answer, in fp32.
        quantized: How the base was quantised in training; None if it was not.

    Raises:
        CommandError: `target` holds something already.
        RunError: The merged model answers differently; nothing is left in `target`.
        MachineError: The disk refused.
    """
    require_free(target)
    logging.disable_progress_bar()
    model = load_artefact(adapter, quantized or Holding(torch.float32))
    trained = None
    if quantized:
        trained = answer(model, prompts, NUM_TOKENS)
        dequantize(model, torch.float32)
        model.float()
    expected = answer(model, prompts, NUM_TOKENS)
    merged = model.merge_and_unload()
    temp = target.with_name(f".{target.name}.tmp")
    with disk_errors(target):
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir(parents=True)
        merged.save_pretrained(temp)
        AutoTokenizer.from_pretrained(adapter).save_pretrained(temp)
    del model, merged
    got = answer(load_artefact(temp, Holding(torch.float32)), prompts, NUM_TOKENS)
    certificate = compare(expected, got, TOLERANCE)
    if trained:
        certificate = replace(certificate, also={WITH_QUANTIZED: differ(trained, got)})
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
