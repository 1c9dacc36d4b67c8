"""What would make a run fit that does not: changes of the recipe, each with the peak it leads to.

Every figure comes from parts that were measured or counted: the peak, what autograd keeps of a
token, the longest pass that is planned, the bytes of weights, gradients and moments.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import torch

from tunesmith.adapters import base as adapters
from tunesmith.api.batches import build_loader
from tunesmith.api.learner import Learner
from tunesmith.api.rows import Rows
from tunesmith.data.loader import Loader
from tunesmith.engine.fit import Fit, Trial, activation_gib
from tunesmith.engine.memory import GIB
from tunesmith.errors import ModelError
from tunesmith.recipe import Recipe

MARGIN = 0.95
"""Share of the available memory that a change must stay within: the figures hold to some percent.
"""


@dataclass(frozen=True, slots=True)
class Change:
    """Overrides of the recipe, and the peak that the run would have with them."""

    overrides: str
    peak_memory_gib: float
    fits: bool


@dataclass(frozen=True, slots=True)
class _Need:
    """What a run needs: passes of so many tokens, each keeping so much, and all the rest."""

    overrides: tuple[str, ...]
    tokens: int
    per_token_gib: float
    rest_gib: float

    @property
    def peak_gib(self) -> float:
        return self.tokens * self.per_token_gib + self.rest_gib


@dataclass(frozen=True)
class Adviser:
    """Knows what can be changed about a run that does not fit.

    Attributes:
        recipe: Resolved.
        rows: Its examples.
        learner: Its model.
        trial: Runs small passes.
        loader: Plans the passes.
        fit: What was measured.
    """

    recipe: Recipe
    rows: Rows
    learner: Learner
    trial: Trial
    loader: Loader
    fit: Fit

    def changes(self) -> list[Change]:
        """Changes that make the run fit, the mildest first; none where it fits already.

        Returns:
            Each change that is enough by itself. Where none is, all but another adapter together;
            where that does not fit either, it is there all the same, and says by its peak how much
            is missing.
        """
        if self.fit.fits:
            return []
        now = _Need(
            (),
            self.fit.worst_batch_tokens,
            self.fit.activation_gib / self.fit.worst_batch_tokens,
            self.fit.peak_memory_gib - self.fit.activation_gib,
        )
        single = [*self._smaller_passes(now), *self._checkpointing(now), *self._bf16(now)]
        single += self._lora(now)
        enough = [change for change in map(self._change, single) if change.fits]
        return self._mildest(enough) or [self._change(self._together(now))]

    def _change(self, need: _Need) -> Change:
        fits = need.peak_gib <= MARGIN * self.fit.available_memory_gib
        return Change(" ".join(need.overrides), need.peak_gib, fits)

    def _mildest(self, enough: list[Change]) -> list[Change]:
        """Of the smaller passes only the largest; of each other kind there is one."""
        passes = [change for change in enough if change.overrides.startswith("train.batch")]
        return passes[:1] + [change for change in enough if change not in passes]

    def _together(self, need: _Need) -> _Need:
        for changes in (self._smaller_passes, self._checkpointing, self._bf16):
            for changed in changes(need):
                need = changed  # The last one saves most.
        return need

    def _smaller_passes(self, need: _Need) -> Iterator[_Need]:
        """The same steps in smaller passes, from half the size down."""
        train = self.recipe.train
        key = "batch_rows" if train.batch_rows else "batch_tokens"
        size, accumulate = getattr(train, key), train.accumulate
        while size % 2 == 0 and (key == "batch_rows" or size > self.rows.train.lengths.max()):
            size, accumulate = size // 2, accumulate * 2
            smaller = train.model_copy(update={key: size, "accumulate": accumulate})
            recipe = self.recipe.model_copy(update={"train": smaller})
            with closing(build_loader(recipe, self.rows)) as loader:
                tokens = loader.worst().input_ids.numel()
            if tokens < need.tokens:
                made = (f"train.{key}={size}", f"train.accumulate={accumulate}")
                yield replace(need, overrides=need.overrides + made, tokens=tokens)

    def _checkpointing(self, need: _Need) -> Iterator[_Need]:
        """Inputs of the blocks are kept, and one block at a time is computed again."""
        model = self.learner.attached.model
        if self.recipe.model.gradient_checkpointing or not model.supports_gradient_checkpointing:
            return
        model.activation_checkpointing_enable({"use_reentrant": False})
        try:
            inputs = activation_gib(self.trial, self.loader)
        except ModelError:
            return  # Blocks that cannot be computed again, such as those given keys as a cache.
        finally:
            model.activation_checkpointing_disable()
        per_token = inputs + need.per_token_gib / model.config.num_hidden_layers
        if per_token < need.per_token_gib:
            made = (*need.overrides, "model.gradient_checkpointing=true")
            yield replace(need, overrides=made, per_token_gib=per_token)

    def _bf16(self, need: _Need) -> Iterator[_Need]:
        """Frozen fp32 weights at half their size; activations are left as they are."""
        frozen = _gib(
            p
            for p in self.learner.attached.model.parameters()
            if not p.requires_grad and p.dtype is torch.float32
        )
        if frozen:
            made = (*need.overrides, "model.dtype=bf16")
            yield replace(need, overrides=made, rest_gib=need.rest_gib - frozen / 2)

    def _lora(self, need: _Need) -> Iterator[_Need]:
        """Without gradients and moments of the base; those of LoRA itself are small beside them."""
        if not adapters.load(self.recipe.adapter.name).TRAINS_BASE:
            return
        trained = _gib(self.trial.parameters)
        moments = _gib(
            value
            for state in self.trial.optimizer.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor)
        )
        made = (*need.overrides, "adapter.name=lora")
        yield replace(need, overrides=made, rest_gib=need.rest_gib - trained - moments)


def _gib(tensors) -> float:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / GIB
