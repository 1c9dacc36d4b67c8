"""Where each answer stands in the token ids, checked against what inference would see.

A tokenizer may merge the end of a prompt with the start of the answer into one token (BPE). What
counts is what inference does: it tokenises the prompt alone. So the ids of the last prompt are kept
as they are, and the answer is tokenised behind them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tunesmith.data.chat_text import LAST_HINT
from tunesmith.data.row import RowProblem, show


@dataclass(frozen=True, slots=True)
class Turn:
    """An assistant message: its index in the conversation, and how much its loss counts."""

    index: int
    weight: float


def align(
    ids_of: Callable[[str], list[int]],
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    prompts: Sequence[str],
) -> tuple[list[int], list[int]]:
    """Tokenises a row so that each prompt's ids are a prefix of the row's.

    Args:
        ids_of: Tokenises a text as inference does.
        tokenizer: Decodes, to check that pieces mean the same as the whole.
        text: The row.
        prompts: What inference would see before each answer, in order; at least one.

    Returns:
        The ids of the row, and for each prompt its number of ids.

    Raises:
        RowProblem: The template writes a prompt otherwise than it does inside the row, or the
            tokenizer merges across the start of an answer that is not the last.
    """
    _check_prefixes(text, prompts)
    ids, heads = ids_of(text), [ids_of(prompt) for prompt in prompts]
    last = heads[-1]
    if ids[: len(last)] != last:
        pieces = last + ids_of(text[len(prompts[-1]) :])
        if tokenizer.decode(pieces) != tokenizer.decode(ids):
            raise RowProblem(
                "a tokenizer that cannot write the answer apart from the prompt",
                "the ids of the prompt to be a prefix of the ids of the row",
                "remove white space at the start of the answer",
            )
        ids = pieces
    for number, head in enumerate(heads[:-1], 1):
        if ids[: len(head)] != head:
            raise RowProblem(
                f"an answer whose start the tokenizer merges with the prompt (answer {number})",
                "the ids that inference starts from to be a prefix of the ids of the row",
                f"remove white space at the start of the answer, or {LAST_HINT}",
            )
    return ids, [len(head) for head in heads]


def answer_ends(
    ids: Sequence[int], starts: Sequence[int], stop_ids: frozenset[int]
) -> list[int | None]:
    """For each answer, the index behind its first stop token; None where it has none.

    Args:
        ids: Of the row.
        starts: Where each answer begins, ascending.
        stop_ids: Tokens that end an answer.
    """
    limits = [*starts[1:], len(ids)]
    spans = zip(starts, limits, strict=True)
    return [
        next((at + 1 for at in range(start, limit) if ids[at] in stop_ids), None)
        for start, limit in spans
    ]


def _check_prefixes(text: str, prompts: Sequence[str]) -> None:
    """Raises when a prompt is not how the row's text begins."""
    for number, prompt in enumerate(prompts, 1):
        if text.startswith(prompt):
            continue
        if number < len(prompts):
            raise changes_earlier(prompt, text, f"answer {number}")
        seen, trained = _difference(prompt, text)
        raise RowProblem(
            "a chat template that opens an answer otherwise than it writes one "
            f"(inference would see {seen}, training {trained})",
            "the prompt of the last answer to be a prefix of the text trained on",
            "write the answer as the template expects it, for example with its <think> part, "
            "or use a base with another template",
        )


def changes_earlier(alone: str, inside: str, what: str) -> RowProblem:
    """The problem of a template that writes a turn otherwise once others follow it.

    Args:
        alone: The text while nothing follows.
        inside: The text of the whole row, from the same place.
        what: Names the turn.
    """
    seen, trained = _difference(alone, inside)
    return RowProblem(
        "a chat template that changes earlier turns when later ones are added "
        f"({what}: inference would see {seen}, training {trained})",
        "the prompt and the text of each trained answer as inference sees them",
        LAST_HINT,
    )


def _difference(left: str, right: str) -> tuple[str, str]:
    """Both texts from where they part, cut for a message."""
    shorter = min(len(left), len(right))
    at = next((i for i in range(shorter) if left[i] != right[i]), shorter)
    return show(left[at : at + 40]), show(right[at : at + 40])
