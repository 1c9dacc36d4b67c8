"""Several LoRA adapters of one base made into one, with weights.

    cat          W + sum_i w_i s_i B_i A_i, exactly; the ranks add up
    linear       A = sum_i sqrt(w_i s_i) A_i and B alike: PEFT's mean of the factors, of their rank
    svd          as cat, cut to the largest rank by singular values
    ties         small numbers dropped, signs agreed on, the rest averaged; arXiv:2306.01708
    dare_*       numbers dropped at random, the rest enlarged; arXiv:2311.03099
    slerp        along the arc between two updates D_1, D_2 of a layer, t = w_2 / (w_1 + w_2):
                 (sin((1 - t) a) D_1 + sin(t a) D_2) / sin(a),  a the angle between them
                 (Shoemake 1985, "Animating rotation with quaternion curves")

All but `cat` and `slerp` are PEFT's `add_weighted_adapter`, with its names. Both factors of slerp
are numbers, so its result is a weighted sum too, and exact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import acos, sin
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils import CONFIG_NAME
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.adapters.base import Saved
from tunesmith.adapters.parts import files, layers
from tunesmith.adapters.parts.update import Share, Update, read, summed
from tunesmith.config.check import choose
from tunesmith.errors import CommandError

OF_PEFT = (
    "linear",
    "svd",
    "ties",
    "ties_svd",
    "dare_linear",
    "dare_linear_svd",
    "dare_ties",
    "dare_ties_svd",
    "magnitude_prune",
    "magnitude_prune_svd",
)
KINDS = ("cat", *OF_PEFT, "slerp")
"""Every way to make one of several."""
THINNED = tuple(kind for kind in OF_PEFT if kind.startswith(("ties", "dare", "magnitude")))
"""Those that drop numbers, and so want a density."""

PARALLEL = 1e-6
"""Sine of an angle below which two updates point the same way, and are mixed linearly."""


@dataclass(frozen=True)
class Mixture:
    """What is mixed, and how.

    Attributes:
        folders: Of the adapters; at least two.
        weights: Of each.
        kind: One of `KINDS`.
        density: Share of the numbers that is kept, by the kinds in `THINNED`.
        seed: Of what is dropped at random.
    """

    folders: Sequence[Path]
    weights: Sequence[float]
    kind: str
    density: float
    seed: int


def require_sound(mixture: Mixture) -> None:
    """Refuse a mixture that cannot be made, before the base is loaded.

    Raises:
        CommandError: Too few adapters, another number of weights, an unknown kind, adapters that
            are not all plain LoRA, or weights that `kind` has no meaning for.
    """
    number = len(mixture.folders)
    choose(mixture.kind, KINDS, "--kind")
    if number < 2 or (mixture.kind == "slerp" and number > 2):
        raise CommandError("merge", got=f"{number} adapters", expected=_how_many(mixture.kind))
    if len(mixture.weights) != number:
        raise CommandError(
            "--weights", got=f"{len(mixture.weights)} of them", expected=f"{number}, one an adapter"
        )
    if mixture.kind == "slerp" and (min(mixture.weights) < 0 or not sum(mixture.weights)):
        raise CommandError("--weights", got=str(list(mixture.weights)), expected="none below 0")
    if not 0 < mixture.density <= 1:
        raise CommandError("--density", got=str(mixture.density), expected="more than 0, at most 1")
    for folder in mixture.folders:
        if others := read(folder).others:
            raise CommandError(
                str(folder), got=f"an adapter with {next(iter(others))}", expected="A and B alone"
            )


def _how_many(kind: str) -> str:
    return "two" if kind == "slerp" else "two or more"


def combine(model: PreTrainedModel, mixture: Mixture) -> tuple[PeftModel, Saved]:
    """Put the mixture on the base, and say what is to be saved of it.

    Args:
        model: The base of all of them, in fp32.
        mixture: Checked by `require_sound`.

    Returns:
        The model with the mixture on, made by PEFT's own layers, and the one adapter that it is.

    Raises:
        CommandError: PEFT refuses to mix these.
    """
    updates = [read(folder) for folder in mixture.folders]
    if mixture.kind in OF_PEFT:
        return _by_peft(model, mixture)
    if mixture.kind == "slerp":
        factors = [_on_arc(updates, mixture.weights, number) for number in (0, 1)]
    else:
        factors = [lambda layer, weight=weight: weight for weight in mixture.weights]
    shares = [Share(update, factor) for update, factor in zip(updates, factors, strict=True)]
    return _side_by_side(model, mixture, factors), _saved(summed(shares))


def _by_peft(model: PreTrainedModel, mixture: Mixture) -> tuple[PeftModel, Saved]:
    peft_model, names = _loaded(model, mixture.folders)
    thinned = {"density": mixture.density} if mixture.kind in THINNED else {}
    torch.manual_seed(mixture.seed)
    with layers.refusals(f"--kind {mixture.kind}", CommandError):
        peft_model.base_model.add_weighted_adapter(
            names,
            list(mixture.weights),
            layers.ADAPTER,
            combination_type=mixture.kind,
            **thinned,
        )
    peft_model.set_adapter(layers.ADAPTER)
    config = peft_model.peft_config[layers.ADAPTER]
    return peft_model, _saved(Update(files.tensors_of(peft_model), config))


def _saved(update: Update) -> Saved:
    return Saved(update.tensors, CONFIG_NAME, files.plain(update.config))


def _side_by_side(
    model: PreTrainedModel, mixture: Mixture, factors: Sequence[Callable[[str], float]]
) -> PeftModel:
    """All adapters at once, each multiplied in every layer: what the sum has to equal."""
    peft_model, names = _loaded(model, mixture.folders)
    peft_model.base_model.set_adapter(names)
    for layer, module in model.named_modules():
        if isinstance(module, LoraLayer):
            for name, factor in zip(names, factors, strict=True):
                if name in module.scaling:
                    module.scaling[name] *= factor(layer)
    return peft_model


def _loaded(model: PreTrainedModel, folders: Sequence[Path]) -> tuple[PeftModel, list[str]]:
    names = [f"part{number}" for number in range(len(folders))]
    with layers.refusals("merge", CommandError):
        peft_model = PeftModel.from_pretrained(model, folders[0], adapter_name=names[0])
        for name, folder in zip(names[1:], folders[1:], strict=True):
            peft_model.load_adapter(folder, name)
    return peft_model.eval(), names


def _on_arc(
    updates: Sequence[Update], weights: Sequence[float], number: int
) -> Callable[[str], float]:
    """The factor on one of two updates, by the layer."""
    pairs = [update.layers() for update in updates]
    share = weights[number] / sum(weights)

    def factor(layer: str) -> float:
        if not all(layer in pair for pair in pairs):
            return share
        angle = acos(cosine(pairs[0][layer], pairs[1][layer]))
        return share if sin(angle) < PARALLEL else sin(share * angle) / sin(angle)

    return factor


def cosine(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """The cosine of the angle between B_1 A_1 and B_2 A_2, never made; 1 where one is zero.

    <B_1 A_1, B_2 A_2> = sum over (A_1 A_2^T) o (B_1^T B_2), both of the size of the ranks.
    """

    def inner(x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor]) -> float:
        (a, b), (c, d) = ((u.double(), v.double()) for u, v in (x, y))
        return ((a @ c.t()) * (b.t() @ d)).sum().item()

    lengths = inner(first, first) * inner(second, second)
    if lengths <= 0.0:
        return 1.0
    return max(-1.0, min(1.0, inner(first, second) / lengths**0.5))
