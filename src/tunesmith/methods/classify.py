"""Sequence classification: a linear head reads the state of the last token.

    s = W h_last,   L = - log softmax(s)_y                            one class of several
                    L = - mean_c [y_c log sigma(s_c) + (1 - y_c) log(1 - sigma(s_c))]    several
                    L = (s - y)^2                                     a number

GPT, Radford et al. 2018, eq. 3 to 5, with the last token in the place of an extract token as in
transformers' classifiers; the sum over classes in place of the softmax is binary relevance
(arXiv:1703.01488 gives its account). The mean over sequences is taken by the loop.

Legend: R sequences, C classes, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tunesmith.config.section import Section
from tunesmith.data.encoded import Encoded
from tunesmith.data.example import Batch
from tunesmith.data.reading import read_source
from tunesmith.data.row import Labelled, RowProblem, ignore, show
from tunesmith.data.section import Source
from tunesmith.data.template import Renderer
from tunesmith.data.whole import Whole
from tunesmith.errors import DataError
from tunesmith.methods.base import LossSum, Values, summed
from tunesmith.models.heads import Head, pad_of
from tunesmith.models.policy import Policy

NEEDS: frozenset[str] = frozenset()
SHAPES = frozenset({"labelled"})
PROBLEMS = {
    "single": "single_label_classification",
    "multi": "multi_label_classification",
    "regression": "regression",
}
"""transformers' names of them."""
VALUE = "label"
"""Name of the number that an example brings: the index of its class, or the number itself."""
MAX_SHOWN = 8
"""Labels that a message lists."""


class Config(Section):
    """Keys of `method` with `name: classify`."""

    name: Literal["classify"] = "classify"
    """Train a head that says of a text what it is."""
    problem: Literal["single", "multi", "regression"] = "single"
    """One class for each row, any number of classes, or a number."""
    labels: Literal["auto"] | list[str] = "auto"
    """The classes in order; auto takes those of the training rows, sorted."""


def settle(config: Config, files: Sequence[Source]) -> Config:
    """The labels of the training rows, sorted; whole numbers by their value.

    Raises:
        DataError: There are fewer than two classes.
    """
    if config.labels != "auto":
        return config
    if config.problem == "regression":
        return config.model_copy(update={"labels": ["score"]})
    found: set[str] = set()
    for file in files:
        for row in read_source(file, ignore, SHAPES):
            found.update(row.content.labels)
    if len(found) < (2 if config.problem == "single" else 1):
        raise DataError(
            "data.train",
            got=f"{len(found)} label in all rows" if found else "no row with a label",
            expected="rows of at least two classes",
        )
    whole = all(label.isdecimal() for label in found)
    return config.model_copy(update={"labels": sorted(found, key=int if whole else None)})


def head(config: Config) -> Head:
    """A score for each label."""
    return Head("scores", tuple(config.labels), PROBLEMS[config.problem])


@dataclass(frozen=True)
class Reader:
    """The encoder of rows with labels.

    Attributes:
        whole: Turns their content into tokens.
        labels: The classes in order.
        problem: Key of `PROBLEMS`.
    """

    whole: Whole
    labels: tuple[str, ...]
    problem: str
    shapes = SHAPES

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides tokens and numbers."""
        return self.whole.fingerprint("classify", self.labels, self.problem)

    def look_ahead(self, contents: Sequence[Labelled]) -> None:
        """Nothing is prepared ahead."""

    def examples(self, content: Labelled) -> list[Encoded]:
        """The one example of a row.

        Raises:
            RowProblem: A label that the model has no score for, or several where one is asked for.
        """
        encoded = self.whole(content.content)
        numbers = self._numbers(content)
        ids, trained = encoded.input_ids, encoded.trained
        return [Encoded(ids, trained, 0, encoded.truncated, numbers=numbers)]

    def _numbers(self, content: Labelled) -> dict[str, float]:
        if self.problem == "regression":
            if content.value is None:
                raise RowProblem(f"label: {show(content.labels[0])}", "a number")
            return {VALUE: content.value}
        for label in content.labels:
            if label not in self.labels:
                raise RowProblem(f"label: {show(label)}, which no training row has", self._known())
        if self.problem == "multi":
            return {_of(i): float(n in content.labels) for i, n in enumerate(self.labels)}
        if len(content.labels) != 1:
            got = f"{len(content.labels)} labels"
            raise RowProblem(got, "one label", "set method.problem: multi for several")
        return {VALUE: float(self.labels.index(content.labels[0]))}

    def _known(self) -> str:
        more = f" and {len(self.labels) - MAX_SHOWN} more" if len(self.labels) > MAX_SHOWN else ""
        return ", ".join(self.labels[:MAX_SHOWN]) + more


def _of(index: int) -> str:
    """Name of the number that says whether an example is of a class; sorts by the index."""
    return f"{VALUE} {index:05d}"


def encoder(renderer: Renderer, config: Config) -> Reader:
    """Texts as they stand, with the index of their label."""
    whole = Whole(renderer, pad_of(renderer.tokenizer))
    return Reader(whole, tuple(config.labels), config.problem)


def loss(policy: Policy, batch: Batch, config: Config) -> LossSum:
    """The loss summed over sequences, how many they are, and how many were right."""
    return summed(measure(policy, batch, config))


def measure(policy: Policy, batch: Batch, config: Config) -> dict[str, Tensor]:
    """(R,) of each sequence: `loss`, and `accuracy` or for numbers the absolute `error`."""
    return judged(policy.scores(batch), targets(batch, config), config.problem)


def targets(batch: Batch, config: Config) -> Tensor:
    """(R,) float32 classes or numbers; (R, C) of zeros and ones for several classes."""
    if config.problem == "multi":
        return torch.stack([batch.numbers[_of(i)] for i in range(len(config.labels))], 1)
    return batch.numbers[VALUE]


def judged(scores_RC: Tensor, targets: Tensor, problem: str) -> dict[str, Tensor]:
    """What `measure` gives, from scores.

    Args:
        scores_RC: (R, C) float32.
        targets: As `targets` gives them.
        problem: Key of `PROBLEMS`. With several classes, a row is right when all are.
    """
    if problem == "regression":
        away_R = scores_RC[:, 0] - targets
        return {"loss": away_R.square(), "error": away_R.abs()}
    if problem == "multi":
        loss_RC = F.binary_cross_entropy_with_logits(scores_RC, targets, reduction="none")
        right_R = ((scores_RC > 0) == (targets > 0.5)).all(1)
        return {"loss": loss_RC.mean(1), "accuracy": right_R.float()}
    classes_R, said_R = targets.long(), scores_RC.argmax(1)
    loss_R = F.cross_entropy(scores_RC, classes_R, reduction="none")
    right_R = (said_R == classes_R).float()
    return {"loss": loss_R, "accuracy": right_R, "_class": classes_R, "_said": said_R}


def overall(values: Values, counts: np.ndarray, numbers: Values) -> dict[str, float]:
    """`f1_macro` of the held-out rows: the mean over the classes that occur or are said.

    F1 = 2 TP / (2 TP + FP + FN), as scikit-learn's `f1_score(average="macro")`. Nothing for
    anything but one class of several. See `Method.overall`.
    """
    if "_class" not in values:
        return {}
    classes, said = values["_class"].astype(int), values["_said"].astype(int)
    size = int(max(classes.max(), said.max())) + 1
    there, named, both = (
        np.bincount(of, minlength=size) for of in (classes, said, classes[classes == said])
    )
    occur = there + named > 0
    return {"f1_macro": float((2 * both[occur] / (there + named)[occur]).mean())}
