"""What each data file was in a run: how much, how often, and its loss before and after."""

from typing import Any

import numpy as np

from tunesmith.api.batches import build_weights
from tunesmith.api.session import Session
from tunesmith.data.section import names_of


def sources(session: Session, measured: int | str) -> list[dict[str, Any]]:
    """One record for each training file, and for what is replayed.

    `weight` is how often a row comes in an epoch. The losses are of the held-out file of the same
    name, None where there is none, in nats per trained token.

    Args:
        session: The run at its end.
        measured: The exported step or average; "after" is measured there.
    """
    rows, section = session.rows, session.recipe.data
    train = rows.train
    found = session.evaluator.history | session.evaluator.averages
    before, after = (found[at].figures if at in found else {} for at in (0, measured))
    tokens = np.bincount(train.sources[train.begins], train.lengths[train.begins])
    weights: list[float | None] = list(build_weights(session.recipe, rows))
    names = names_of(section.train_sources)
    if rows.replayed:
        weights.append(None)
        names.append("replay")
    return [
        {
            "name": name,
            "path": file.path,
            "rows": count,
            "tokens": int(total),
            "weight": weight,
            "share": section.replay.share if weight is None else None,
            "loss_before": before.get(f"loss/{name}"),
            "loss_after": after.get(f"loss/{name}"),
        }
        for name, file, count, total, weight in zip(
            names, train.files, train.rows_per_file, tokens, weights, strict=True
        )
    ]
