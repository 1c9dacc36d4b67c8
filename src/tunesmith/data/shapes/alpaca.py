"""Alpaca: instruction, an input that may be empty, output; Dolly's names for them too.

LLaMA-Factory's additions `system` and `history` (earlier pairs) are read as turns. On a base
without a chat template the prompt is the one of Stanford Alpaca
(https://github.com/tatsu-lab/stanford_alpaca).
"""

from dataclasses import replace

from tunesmith.data.row import Conversation, Message, RowProblem, show
from tunesmith.data.shapes.base import answer_of, text_of
from tunesmith.data.turns import check_turns

KEYS = "instruction, output; input, system and history if wanted"
RANK = 30

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


def matches(row: dict) -> bool:
    """Whether there is an instruction and what answers it."""
    return "instruction" in row and ("output" in row or "response" in row)


def read(row: dict) -> Conversation:
    """Instruction and input (a line below it) as the user's turn, output as the answer."""
    answer_key = "output" if "output" in row else "response"
    answer = answer_of(row.get(answer_key), answer_key)
    asked = read_prompt(row)
    messages = (*asked.messages, Message("assistant", answer))
    check_turns(messages)
    return replace(asked, messages=messages)


def read_prompt(row: dict) -> Conversation:
    """All that stands before the answer; raises RowProblem where there is no instruction."""
    instruction = text_of(row.get("instruction"), "instruction")
    extra_key = "input" if "input" in row else "context"
    extra = text_of(row.get(extra_key) or "", extra_key)
    user = f"{instruction}\n{extra}" if extra else instruction
    if not user.strip():
        raise RowProblem("an empty instruction", "text in instruction or input")
    before = (*_system(row), *_history(row))
    messages = (*before, Message("user", user))
    if before:
        return Conversation(messages)
    template = WITH_INPUT if extra else WITHOUT_INPUT
    plain = template.format(instruction=instruction, input=extra)
    return Conversation(messages, kind="completion", plain_prompt=plain)


def _system(row: dict) -> tuple[Message, ...]:
    """The system message, where the row has one."""
    system = text_of(row.get("system") or "", "system")
    return (Message("system", system),) if system else ()


def _history(row: dict) -> tuple[Message, ...]:
    """Earlier pairs of question and answer as turns."""
    turns: list[Message] = []
    pairs = row.get("history") or []
    if not isinstance(pairs, list):
        raise RowProblem(f"history: {show(pairs)}", "a list of [question, answer]")
    for number, pair in enumerate(pairs, 1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowProblem(f"history, pair {number}: {show(pair)}", "[question, answer]")
        turns.append(Message("user", text_of(pair[0], f"history, pair {number}")))
        turns.append(Message("assistant", text_of(pair[1], f"history, pair {number}")))
    return tuple(turns)
