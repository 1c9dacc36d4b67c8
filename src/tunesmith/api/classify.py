"""`classify`: what a trained classifier says of texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith.api.reader import Readable, Reader, open_reader

THRESHOLD = 0.5
"""A class of several is said of a text from this probability on."""


def classify(name: str | Path | Reader, readables: Sequence[Readable]) -> list[dict[str, Any]]:
    """Classify texts or conversations.

    Args:
        name: A run of method classify or reward, a folder that one exported, or the same opened.
        readables: Texts, or chat messages.

    Returns:
        For each: `label`, `labels` of several classes, or `value` of a number; `probabilities` by
        label but for numbers; and the raw `scores`.

    Raises:
        CommandError: No such model, or something that cannot be read.
    """
    reader = name if isinstance(name, Reader) else open_reader(name)
    return [_said(scores, reader) for scores in reader.scores(readables)]


def _said(scores_C: Tensor, reader: Reader) -> dict[str, Any]:
    scores = scores_C.tolist()
    if reader.problem == "regression":
        return {"value": scores[0], "scores": scores}
    if reader.problem == "multi_label_classification":
        shares = torch.sigmoid(scores_C).tolist()
        named = [label for label, p in zip(reader.labels, shares, strict=True) if p >= THRESHOLD]
        said: dict[str, Any] = {"labels": named}
    else:
        shares = torch.softmax(scores_C, 0).tolist()
        said = {"label": reader.labels[int(scores_C.argmax())]}
    return {
        **said,
        "probabilities": dict(zip(reader.labels, shares, strict=True)),
        "scores": scores,
    }
