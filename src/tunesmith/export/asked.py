"""What two models are both asked, and what each replies.

The trained model answers some prompts greedily; every model is then shown prompts with those same
answers, so that all are compared over the same tokens, whatever each would have said itself. Models
with another head than the language model's are compared by what that gives of each sequence.

Legend: N compared positions of all sequences, V vocabulary, R rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tunesmith.models.heads import LAST, LOGITS, SCORES, STATES, gives
from tunesmith.models.load import quiet
from tunesmith.models.pooling import POOLED

MAX_POSITIONS = 64
"""Positions compared of one sequence, the last ones: 4 prompts over a vocabulary of 256,000 then
make 260 MB of logits for each model. A wrong rotation shows the more the later the position."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions to any causal language model.

    Attributes:
        sequences: Token ids of prompts, each with the trained model's own answer behind it.
        answer_tokens: How many tokens at the end of each are that answer.
        rows: Held-out rows: token ids, and which of them are targets of the loss (never the first).
        texts: Texts that the export's own tokenizer is to turn into ids.
        gives: `logits` of tokens; `scores` of a sequence, or its `states`, last or mean.
    """

    sequences: list[list[int]]
    answer_tokens: int
    rows: list[tuple[list[int], list[bool]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    gives: str = LOGITS


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model replied.

    Attributes:
        logits: (N, V) float32, at the last positions of each sequence that predict a token; or
            the scores (sequences, C) or states (sequences, D) of whole sequences.
        answering: (N,) bool, where that token belongs to the trained model's answer.
        losses: (R,) float64, the summed loss of each row in nats.
        token_ids: Ids of each text.
    """

    logits: Tensor
    answering: Tensor
    losses: Tensor
    token_ids: list[list[int]]


def questions(
    model: nn.Module,
    prompts: list[list[int]],
    num_tokens: int,
    pooling: str = LAST,
) -> Asked:
    """What to ask `model` and whoever should answer as it does, held-out rows and texts left out.

    Args:
        model: Any model of transformers or PEFT.
        prompts: Token ids, none empty.
        num_tokens: How many tokens a language model chooses behind each.
        pooling: How the states of a sequence become one.
    """
    what = gives(model)
    if what == LOGITS:
        return Asked(continued(model, prompts, num_tokens), num_tokens)
    return Asked(prompts, 0, gives=pooling if what == STATES else what)


@torch.inference_mode()
def continued(model: nn.Module, prompts: list[list[int]], num_tokens: int) -> list[list[int]]:
    """The prompts, each with `num_tokens` greedy tokens behind it; stop tokens do not end them.

    Args:
        model: Any causal language model of transformers or PEFT.
        prompts: Token ids, none empty.
        num_tokens: How many tokens to choose.
    """
    device = next(model.parameters()).device
    sequences = []
    for prompt in prompts:
        out = model(input_ids=torch.tensor([prompt], device=device), use_cache=True)
        chosen = [out.logits[0, -1].argmax()]
        while len(chosen) < num_tokens:
            step = chosen[-1].view(1, 1)
            out = model(input_ids=step, past_key_values=out.past_key_values, use_cache=True)
            chosen.append(out.logits[0, -1].argmax())
        sequences.append([*prompt, *torch.stack(chosen).tolist()])
    return sequences


def reply(
    logits_of: Callable[[list[int]], Tensor],
    tokenize: Callable[[str], list[int]],
    asked: Asked,
) -> Reply:
    """Put all questions to a model.

    Args:
        logits_of: Logits (T, V) of a sequence of T token ids; or (1, C) of the whole.
        tokenize: Ids of a text, special tokens in it recognised, none added.
        asked: The questions.
    """
    logits, answering = [], []
    if asked.gives != LOGITS:
        logits = [logits_of(ids).float().cpu() for ids in asked.sequences]
        answering = [True] * len(logits)
    for ids in asked.sequences if asked.gives == LOGITS else ():
        # The last token predicts nothing that is compared.
        places = range(max(len(ids) - 1 - MAX_POSITIONS, 0), len(ids) - 1)
        logits.append(logits_of(ids)[places.start : places.stop].float().cpu())
        answering += [place >= len(ids) - 1 - asked.answer_tokens for place in places]
    losses = [_loss(logits_of(ids), ids, trained) for ids, trained in asked.rows]
    return Reply(
        torch.cat(logits),
        torch.tensor(answering),
        torch.tensor(losses, dtype=torch.float64),
        [tokenize(text) for text in asked.texts],
    )


def of_model(model: nn.Module, tokenize: Callable[[str], list[int]], asked: Asked) -> Reply:
    """`reply` of a model of transformers or PEFT."""
    device = next(model.parameters()).device

    @torch.inference_mode()
    def logits_of(ids: list[int]) -> Tensor:
        # PEFT gives states and logits of virtual tokens as well, first.
        out = model(input_ids=torch.tensor([ids], device=device), use_cache=False)
        if asked.gives in POOLED:
            states_TD = out.last_hidden_state[0, -len(ids) :].float()
            return states_TD[-1:] if asked.gives == LAST else states_TD.mean(0, keepdim=True)
        if asked.gives == SCORES:
            return out.logits
        return out.logits[0, -len(ids) :]

    # Behind virtual tokens transformers cannot see padding, and says so; there is none.
    with quiet():
        return reply(logits_of, tokenize, asked)


def _loss(logits_TV: Tensor, ids: Sequence[int], trained: Sequence[bool]) -> float:
    targets = torch.tensor(
        [token if on else -100 for token, on in zip(ids[1:], trained[1:], strict=True)],
        device=logits_TV.device,
    )
    return cross_entropy(logits_TV[:-1].float(), targets, reduction="sum").item()
