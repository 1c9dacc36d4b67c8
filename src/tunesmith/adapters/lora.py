"""LoRA: a low-rank update beside each chosen layer, the base frozen.

    W' = W + s B A,   A (rank, inputs), B (outputs, rank),   s = alpha / rank

LoRA, arXiv:2106.09685, eq. 3; structure and file format are PEFT's. A and B are fp32.
    scaling: rslora    s = alpha / sqrt(rank), arXiv:2312.03732, eq. 5
    dora               W' = m (W + s B A) / ||W + s B A||, m (outputs,) trained, rows normed;
                       arXiv:2402.09353, eq. 5
    plus_ratio         B learns so many times as fast as A; LoRA+, arXiv:2402.12354, section 5
    init               `parts/start.py` has each with its paper

A start that moves the base (pissa, olora, corda), and an update on top of another, are saved as
the one update W' - W, so that the adapter loads over the base as published (`parts/update.py`).
"""

import re
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, PeftModel
from peft.utils import CONFIG_NAME
from pydantic import Field, model_validator
from transformers import PreTrainedModel

from tunesmith.adapters.base import Attached, Material, Saved
from tunesmith.adapters.parts import earlier, files, layers, start
from tunesmith.adapters.parts.keys import From
from tunesmith.adapters.parts.update import Share, Update, read, summed
from tunesmith.config.section import Section
from tunesmith.errors import RecipeError
from tunesmith.models.heads import task_of

LEARNING_RATE = 2e-4
"""The rate of the QLoRA paper for small models (arXiv:2305.14314, table 9)."""
TRAINS_BASE = False
FOLDER = "adapter"

EARLIER = "earlier"
"""PEFT's name of the frozen adapter that another is trained on top of."""


class Config(Section):
    """Keys of `adapter` with `name: lora`."""

    name: Literal["lora"] = "lora"
    """Train low-rank updates beside linear layers."""
    rank: int = Field(16, ge=1)
    """Rank of each update."""
    alpha: float | None = Field(None, gt=0)
    """Scales the updates, by alpha / rank; left out, their factor is 2."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of dropping an input of the update while training."""
    targets: Literal["auto"] | list[str] = "auto"
    """auto: every linear layer of the blocks; or last name parts, such as [q_proj, v_proj], those
    of the embedding and the head among them."""
    rank_pattern: dict[str, int] = Field({})
    """Other ranks for some layers, by the end of their names or a regular expression for it:
    {down_proj: 32, "layers.0.*": 4}."""
    alpha_pattern: dict[str, float] = Field({})
    """The same for alpha."""
    init: Literal["default", "gaussian", "pissa", "olora", "loftq", "eva", "corda"] = "default"
    """How A and B start; eva and corda look at your rows, loftq makes up for model.quantize, pissa,
    olora and corda move the base's largest parts into the adapter."""
    scaling: Literal["standard", "rslora"] = "standard"
    """rslora: alpha is divided by the root of the rank, for high ranks."""
    dora: bool = False
    """Train the lengths of the weight's rows beside the update (DoRA)."""
    plus_ratio: float = Field(1.0, ge=1)
    """B learns so many times as fast as A (LoRA+ suggests 16, with half the usual rate)."""
    added_tokens: list[str] = Field([])
    """Texts that become tokens of their own, with trained embeddings."""
    from_: From = None
    on_top_of: str | None = None
    """Run or adapter folder whose LoRA stays frozen beneath this one; the result holds both."""

    @property
    def changes_base(self) -> bool:
        """Whether the start takes out of the base what it puts into the adapter."""
        return self.init in start.MOVE_BASE

    @property
    def reads_base(self) -> bool:
        """Whether rows of the base's weights are measured."""
        return self.dora

    def alpha_for(self, rank: int) -> float:
        """Alpha of an update of this rank, with its default filled in."""
        if self.alpha is not None:
            return self.alpha
        return 2.0 * (sqrt(rank) if self.scaling == "rslora" else rank)

    @property
    def scale(self) -> float:
        """The factor s on B A, where no pattern says otherwise."""
        root = sqrt(self.rank) if self.scaling == "rslora" else self.rank
        return self.alpha_for(self.rank) / root

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        if self.from_ and self.init != "default":
            raise ValueError("init: default beside from, which gives the numbers to start with")
        if self.on_top_of and (self.dora or self.changes_base or self.added_tokens):
            raise ValueError("on_top_of without dora, added_tokens, or an init that moves the base")
        return self


@dataclass(frozen=True)
class Writer:
    """What knows the update of a model.

    Attributes:
        model: With the layers in it.
        taken_off: Updates that are part of what was trained and are not of the base: the negative
            of a start that the base was moved by, or the frozen adapter beneath.
    """

    model: PeftModel
    taken_off: tuple[Share, ...] = ()


def attach(model: PreTrainedModel, config: Config, seed: int) -> Attached:
    """`attach_from` without material."""
    return attach_from(model, config, seed, None)


def attach_from(
    model: PreTrainedModel, config: Config, seed: int, material: Material | None
) -> Attached:
    """Put an update beside each target; what is drawn is drawn from `seed`.

    Raises:
        RecipeError: A target or pattern that matches no layer of the base, a start without what it
            is computed from, or an adapter to go on with that is not of this recipe.
    """
    wanted = _peft_config(model, config, material)
    torch.manual_seed(seed)
    model.requires_grad_(False)
    if config.on_top_of:
        return _on_top(model, config, wanted)
    attached = layers.attached(model, start.started(model, wanted, config.init, material))
    attached = replace(attached, rates=_rates(attached, config), writer=Writer(attached.writer))
    if config.from_:
        earlier.go_on(saved(attached), config.from_, "adapter.from")
        return replace(attached, continued=True)
    return _moved(attached) if config.changes_base else attached


def multiple(config: Config) -> float:
    """The best rate as a multiple of that of full fine-tuning.

    10 in a scale of 32 / rank, for every rank (LoRA Without Regret, Schulman and Thinking Machines
    Lab, 2025). B starts at zero, so that the first updates of W go by scale times the rate of B: in
    another scale the rate is larger by as much as the scale is smaller, and B learns as fast where
    it is to learn faster than A.
    """
    return 10.0 * 32.0 / config.rank / config.scale / config.plus_ratio


def write(attached: Attached, folder: Path, base_id: str) -> None:
    """Write a PEFT adapter folder: adapter_config.json and adapter_model.safetensors."""
    for config in attached.writer.model.peft_config.values():
        config.base_model_name_or_path = base_id
        config.inference_mode = True
    files.keep(saved(attached), folder)


def saved(attached: Attached) -> Saved:
    """The update that makes the trained model of the base as published, under PEFT's names."""
    writer: Writer = attached.writer
    update = Update(files.tensors_of(writer.model), writer.model.peft_config[layers.ADAPTER])
    if writer.taken_off:
        update = summed([Share(update, lambda layer: 1.0), *writer.taken_off])
    return Saved(update.tensors, CONFIG_NAME, files.plain(update.config))


def _peft_config(model: PreTrainedModel, config: Config, material: Material | None) -> LoraConfig:
    known = sorted({*layers.linear_names(model), *_ends(model)})
    targets = layers.linear_names(model)
    if config.targets != "auto":
        targets = layers.require_targets(config.targets, known)
    _require_matches(model, targets, config)
    _require_own_head(model, targets, config)
    ranks, alphas = config.rank_pattern, dict(config.alpha_pattern)
    if config.alpha is None:
        alphas = {key: config.alpha_for(rank) for key, rank in ranks.items()} | alphas
    return LoraConfig(
        task_type=task_of(model),
        r=config.rank,
        lora_alpha=config.alpha_for(config.rank),
        lora_dropout=config.dropout,
        target_modules=sorted(targets),
        rank_pattern=ranks,
        alpha_pattern=alphas,
        use_rslora=config.scaling == "rslora",
        use_dora=config.dora,
        trainable_token_indices=_token_rows(model, config, material),
    )


def _ends(model: PreTrainedModel) -> list[str]:
    """Last name parts of the embedding and the head."""
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [n.rpartition(".")[2] for n, m in model.named_modules() if any(m is e for e in ends)]


def _require_matches(model: PreTrainedModel, targets: list[str], config: Config) -> None:
    """Refuse a pattern that no target has: PEFT would say nothing."""
    names = [n for n, _ in model.named_modules() if n.rpartition(".")[2] in targets]
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(config, key):
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in names):
                raise RecipeError(
                    f"adapter.{key}",
                    got=f"{pattern!r}, which no target's name ends with",
                    expected=f"the end of a name such as {names[0]}, or a regular expression",
                )


def _require_own_head(model: PreTrainedModel, targets: list[str], config: Config) -> None:
    """Refuse to take out of a head what the embedding, the same matrix, still needs."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None:
        return
    name = next(n.rpartition(".")[2] for n, m in model.named_modules() if m is head)
    if config.changes_base and name in targets and head.weight is embedding.weight:
        raise RecipeError(
            "adapter.targets",
            got=f"{name} with init: {config.init}, on a base whose embedding is the same matrix",
            expected=f"targets without {name}, or init: default",
        )


def _token_rows(
    model: PreTrainedModel, config: Config, material: Material | None
) -> dict[str, list[int]] | None:
    """By the names of embedding and head, the rows of the tokens that were added."""
    if not config.added_tokens:
        return None
    ids = [] if material is None else list(material.added)
    if not ids:
        raise RecipeError(
            "adapter.added_tokens", got="a base without these tokens", expected="a base with them"
        )
    names = _ends(model)
    # PEFT follows a head that shares the embedding's matrix by itself.
    return dict.fromkeys(names[:1] if model.config.tie_word_embeddings else names, ids)


def _rates(attached: Attached, config: Config) -> dict[str, float]:
    if config.plus_ratio == 1.0:
        return {}
    return {n: config.plus_ratio for n in attached.trained if ".lora_B." in n or "embedding_B" in n}


def _on_top(model: PreTrainedModel, config: Config, wanted: LoraConfig) -> Attached:
    """Two adapters at once, the earlier one frozen."""
    folder = earlier.folder_of(config.on_top_of, "adapter.on_top_of")
    beneath = read(folder)
    if beneath.others:
        raise RecipeError(
            "adapter.on_top_of",
            got=f"{folder} with {next(iter(beneath.others))}",
            expected="LoRA without DoRA and without added tokens",
        )
    with layers.refusals("adapter.on_top_of"):
        both = PeftModel.from_pretrained(model, folder, adapter_name=EARLIER)
        both.add_adapter(layers.ADAPTER, wanted)
        both.base_model.set_adapter([EARLIER, layers.ADAPTER])
    for name, parameter in both.named_parameters():
        parameter.requires_grad_(f".{layers.ADAPTER}." in name)
    attached = layers.attached(model, both)
    writer = Writer(both, (Share(beneath, lambda layer: 1.0),))
    return replace(attached, rates=_rates(attached, config), writer=writer, continued=True)


def _moved(attached: Attached) -> Attached:
    """With the start kept, to be taken off again: the base that is published has not moved."""
    model: PeftModel = attached.writer.model
    begun = {name: p.detach().clone() for name, p in attached.trained.items()}
    tensors = {name: t.detach().clone() for name, t in files.tensors_of(model).items()}
    update = Update(tensors, model.peft_config[layers.ADAPTER])
    return replace(
        attached,
        disabled=partial(start.put, attached.trained, begun),
        writer=Writer(model, (Share(update, lambda layer: -1.0),)),
    )
