"""Low-rank updates as numbers: read from a folder, added up, written as one.

    sum_i w_i s_i B_i A_i = s [w_1 s_1 / s B_1, w_2 s_2 / s B_2, ...] [A_1; A_2; ...]

The sum of updates is an update whose rank is the sum of theirs, exactly: nothing is approximated.
So what has a start to be taken off again, or lies on top of another adapter, or is mixed of
several, is saved as one plain LoRA that any program loads over the base as published.

Legend: r rank of one update, I inputs, O outputs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from torch import Tensor

from tunesmith.adapters.parts.earlier import config_in, tensors_in
from tunesmith.errors import CommandError

_PREFIX = "base_model.model."
_PAIRS = ((".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B"))


@dataclass(frozen=True)
class Update:
    """A LoRA adapter outside of any model.

    Attributes:
        tensors: By PEFT's names.
        config: What scales them.
    """

    tensors: dict[str, Tensor]
    config: LoraConfig

    def layers(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By the name of a layer in the base, its A (r, I) and B (O, r)."""
        found = {}
        for name in self.tensors:
            for a, b in _PAIRS:
                if name.endswith(a):
                    stem = name.removesuffix(a)
                    pair = self.tensors[name], self.tensors[stem + b]
                    found[stem.removeprefix(_PREFIX)] = pair
        return found

    def scale(self, layer: str) -> float:
        """The factor s on B A of a layer: alpha / r, or alpha / sqrt(r) with rsLoRA."""
        pattern = self.config.alpha_pattern
        alpha = pattern.get(get_pattern_key(pattern.keys(), layer), self.config.lora_alpha)
        rank = self.layers()[layer][0].shape[0]
        return alpha / (sqrt(rank) if self.config.use_rslora else rank)

    @property
    def others(self) -> dict[str, Tensor]:
        """Whatever is no A and no B: magnitudes of DoRA, rows of new tokens."""
        return {n: t for n, t in self.tensors.items() if ".lora_A." not in n and _is_other(n)}


def _is_other(name: str) -> bool:
    return not name.endswith(tuple(ending for pair in _PAIRS for ending in pair))


def read(folder: Path) -> Update:
    """The LoRA adapter in a folder.

    Raises:
        ModelError: No adapter as safetensors, or a damaged one.
        CommandError: An adapter of another kind.
    """
    config = config_in(folder)
    if not isinstance(config, LoraConfig):
        kind = str(getattr(config.peft_type, "value", config.peft_type)).lower()
        raise CommandError(str(folder), got=f"an adapter of kind {kind}", expected="LoRA")
    return Update(tensors_in(folder), config)


@dataclass(frozen=True)
class Share:
    """An update with its weight in a sum.

    Attributes:
        update: What is added.
        weight: Gives the factor on it, by the name of the layer.
    """

    update: Update
    weight: Callable[[str], float]


def summed(shares: Sequence[Share]) -> Update:
    """One update that is the weighted sum of several; all else comes from the first one.

    Args:
        shares: At least one; layers that only some of them have are taken over.
    """
    first = shares[0].update
    tensors: dict[str, Tensor] = dict(first.others)
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    layers = [share.update.layers() for share in shares]
    for name in dict.fromkeys(name for found in layers for name in found):
        present = [
            (s, found[name]) for s, found in zip(shares, layers, strict=True) if name in found
        ]
        scale = present[0][0].update.scale(name)
        a_rI = torch.cat([a for _, (a, _) in present])
        factors = [s.weight(name) * s.update.scale(name) / scale for s, _ in present]
        pairs = zip(factors, present, strict=True)
        b_Or = torch.cat([b if f == 1.0 else b * f for f, (_, (_, b)) in pairs], 1)
        a_key, b_key = _keys(name, present[0][0].update)
        tensors[a_key], tensors[b_key] = a_rI, b_Or
        ranks[name], alphas[name] = a_rI.shape[0], scale * a_rI.shape[0]
    return Update(tensors, _config_of(first.config, shares, ranks, alphas))


def _keys(layer: str, update: Update) -> tuple[str, str]:
    for a, b in _PAIRS:
        if f"{_PREFIX}{layer}{a}" in update.tensors:
            return f"{_PREFIX}{layer}{a}", f"{_PREFIX}{layer}{b}"
    raise KeyError(layer)


def _config_of(
    first: LoraConfig, shares: Sequence[Share], ranks: dict[str, int], alphas: dict[str, float]
) -> LoraConfig:
    """The usual rank and alpha, and patterns for the layers that have others."""
    config = deepcopy(first)
    config.init_lora_weights, config.use_rslora = True, False
    config.eva_config = config.corda_config = None
    rank, alpha = _most_common(ranks.values()), _most_common(alphas.values())
    config.r, config.lora_alpha = rank, alpha
    config.rank_pattern = {n: r for n, r in ranks.items() if r != rank}
    config.alpha_pattern = {n: a for n, a in alphas.items() if a != alpha}
    targets = [share.update.config.target_modules for share in shares]
    if any(other != targets[0] for other in targets):
        config.target_modules = set(ranks)
    return config


def _most_common(values: Iterable[float]) -> float:
    return Counter(values).most_common(1)[0][0]
