"""Rows under way with a model: each step reads new prompts and one more token of every row."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.generate.attention import GENERATING, Step, register
from tunesmith.generate.cache import Cache
from tunesmith.models import soft as soft_prompt
from tunesmith.models.attention import attention
from tunesmith.models.soft_keys import SoftKeys
from tunesmith.models.soft_tokens import SoftTokens

PROMPT_TOKENS = 1024
"""Tokens of new prompts in one step, if there are that many."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that rows begin with.

    Attributes:
        ids: Token ids.
        copies: How many rows begin with it; it is computed once for all of them.
    """

    ids: Sequence[int]
    copies: int = 1


class Session:
    """Rows without any padding, over a cache that is laid out once.

    New rows may join at any step, since the layers see one sequence: a token of each row that is
    under way, and behind them the new prompts.

    Args:
        model: A causal language model that `fits`, in eval mode.
        max_rows: Most rows at a time.
        longest: Most tokens of any row, prompt and answer together, if that is known.
        prefix: Tokens that every prompt begins with, fewer than the shortest has. They are computed
            once, and for no prompt again.
    """

    prompt_tokens = PROMPT_TOKENS

    # Not inference_mode: the model may keep what it computes here, such as weights in a lower
    # precision, and training could not use tensors that were made in that mode.
    @torch.no_grad()
    def __init__(
        self,
        model: PreTrainedModel,
        max_rows: int,
        longest: int | None = None,
        prefix: Sequence[int] = (),
    ) -> None:
        register()
        self._model = model
        soft = soft_prompt.of(model)
        given = soft.keys_and_values(model.dtype) if isinstance(soft, SoftKeys) else None
        self.cache = Cache(max_rows, longest, given)
        self._num_ahead = 0 if given is None else soft.num_tokens
        self._num_shared = 0
        if isinstance(soft, SoftTokens):
            self._read_soft(soft)
        if prefix:
            self.step([], [Prompt(prefix, copies=0)])
            self._num_shared = len(prefix)

    def room(self) -> int:
        """How many rows may join at the next step."""
        return self.cache.places - len(self.cache.lengths)

    @torch.no_grad()
    def step(self, tokens: Sequence[int], prompts: Sequence[Prompt] = ()) -> Tensor:
        """Read `tokens`, the last one of each row, and `prompts`, whose rows come behind these.

        Returns:
            (N, V) logits of the token that comes next in each row, in the dtype of the model.
        """
        num_rows, shared = len(tokens), self._num_shared
        before = self._num_ahead + shared
        own = tuple(len(prompt.ids) - shared for prompt in prompts)
        copies = tuple(prompt.copies for prompt in prompts)
        positions = [*self.cache.lengths, *(before + i for n in own for i in range(n))]
        ids = [*tokens, *(token for prompt in prompts for token in prompt.ids[shared:])]
        ends = [*range(num_rows), *(num_rows + end - 1 for end in accumulate(own))]
        self.cache.add([before + n for n, c in zip(own, copies, strict=True) for _ in range(c)])
        read = {"input_ids": torch.tensor([ids], device=self._model.device)}
        step = Step(self.cache, num_rows, own, copies, self._model.device)
        logits = self._read(read, step, positions, ends)
        if set(copies) <= {1}:
            return logits
        repeats = torch.tensor([1] * num_rows + list(copies), device=self._model.device)
        return logits.repeat_interleave(repeats, 0)

    def _read(
        self, read: dict[str, Tensor], step: Step, positions: list[int], ends: list[int]
    ) -> Tensor:
        """(N, V) logits at the places `ends` of the sequence `read`."""
        self.last = step
        with attention(self._model, GENERATING):
            out = self._model(
                **read,
                position_ids=torch.tensor([positions], device=step.device),
                use_cache=False,
                logits_to_keep=torch.tensor(ends, device=step.device),
                step=step,
            )
        return out.logits[0]

    def _read_soft(self, soft: SoftTokens) -> None:
        """Make virtual tokens what all rows begin with."""
        num_tokens, table = soft.num_tokens, self._model.get_input_embeddings()
        read = {"inputs_embeds": soft.embeddings(table.weight.dtype)[None]}
        step = Step(self.cache, 0, (num_tokens,), (0,), self._model.device)
        self._read(read, step, list(range(num_tokens)), [num_tokens - 1])
        self._num_ahead = num_tokens

    @torch.no_grad()
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with `rows` alone, in this order; a row may only move to the front."""
        self.cache.keep(rows)
