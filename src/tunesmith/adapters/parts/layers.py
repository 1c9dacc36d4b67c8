"""Adapters that sit in a model's layers and whose structure is PEFT's: attached alike.

PEFT replaces each target by a layer of its own around it. Whatever it trains is fp32 here, whatever
the type of the base: an update smaller than 2^-8 of a bf16 number would vanish.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached, kinds
from tunesmith.adapters.parts import earlier, files
from tunesmith.adapters.parts.model_type import train_in_type_of_model
from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.models.heads import task_of

ADAPTER = "default"
"""PEFT's name of the adapter that is trained."""


def attach(
    model: PreTrainedModel, config: PeftConfig, seed: int, from_: str | None = None
) -> Attached:
    """Put the layers of `config` into `model`; whatever they draw is drawn from `seed`.

    Args:
        model: The base.
        config: PEFT's configuration.
        seed: Of what is drawn.
        from_: A run or adapter folder whose numbers are gone on with.

    Raises:
        RecipeError: PEFT refuses the configuration for this base; the earlier adapter is another.
    """
    torch.manual_seed(seed)
    model.requires_grad_(False)
    config.task_type = task_of(model)
    with refusals("adapter"):
        peft_model = get_peft_model(model, config)
    train_in_type_of_model(model)
    made = attached(model, peft_model)
    if from_:
        earlier.go_on(files.saved(made), from_, "adapter.from")
        return replace(made, continued=True)
    return made


def attached(model: PreTrainedModel, peft_model: PeftModel) -> Attached:
    """What is known of a model once PEFT's layers are in it; trained numbers become fp32.

    Raises:
        RecipeError: PEFT has put no layer into the model.
    """
    adapted = {n for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)}
    if not adapted:
        raise RecipeError(
            "adapter",
            got=f"{type(peft_model).__name__} without a layer in the model",
            expected="an adapter that sits in the layers",
        )
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    inside = tuple(f"{name}." for name in adapted)
    return Attached(
        model=model,
        trained={n: p for n, p in model.named_parameters() if p.requires_grad},
        writer=peft_model,
        disabled=peft_model.disable_adapter,
        targeted=dict(Counter(name.rpartition(".")[2] for name in sorted(adapted))),
        untargeted=dict(
            Counter(kinds(model, lambda n, _: not n.startswith(inside) and n not in adapted))
        ),
    )


@contextmanager
def refusals(where: str, kind: type[TunesmithError] = RecipeError) -> Iterator[None]:
    """Turn what PEFT raises over a configuration into an error of ours; hush its advice."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    except (ValueError, TypeError, KeyError, NotImplementedError, ImportError) as error:
        if isinstance(error, TunesmithError):
            raise
        text = " ".join(str(error).split())[:300]
        raise kind(where, got=text, expected="what PEFT can put into this base") from error


def linear_names(model: PreTrainedModel) -> list[str]:
    """Last name parts of the linear layers of the blocks, the head left out."""
    head = model.get_output_embeddings()
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module is not head
        }
    )


def chosen(model: PreTrainedModel, targets: str | list[str]) -> list[str]:
    """The last name parts that `targets` stands for, "auto" being every linear layer of the blocks.

    Raises:
        RecipeError: A target that matches no linear layer of the base.
    """
    return sorted(require_targets(targets, linear_names(model)))


def norm_names(model: PreTrainedModel) -> list[str]:
    """Names of the norms: modules whose own weights are all vectors."""
    found = []
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own and all(p.ndim == 1 for p in own):
            found.append(name)
    return found


def require_targets(
    targets: str | list[str], known: list[str], what: str = "linear layers"
) -> list[str]:
    """`targets` as a list, "auto" being all that are known; RecipeError for one that is not."""
    if isinstance(targets, str):
        return known
    for target in targets:
        if target not in known:
            raise RecipeError(
                "adapter.targets",
                got=repr(target),
                expected=f"{what} of this base: {', '.join(known)}",
            )
    return targets
