"""Makes the rows of a case: one JSONL that every side trains on, in its order.

Run as a process of its own, `python -m benchmarks.rows JOB`, since it needs the tokenizer. A line
holds `messages`, and the tokens that they are: `input_ids`, and `trained`, which is 1 on the
targets of the loss. Peers are handed the tokens, so that no template can make the work unequal;
Tunesmith reads the messages, and the harness compares the counts. Lines for preference methods
hold `prompt`, `chosen` and `rejected` instead, and the length of each side as `tokens`.
"""

import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from benchmarks.cases import MAX_TOKENS
from tunesmith.data.reading import read_file
from tunesmith.data.row import Conversation, Message
from tunesmith.data.template import Renderer

NOTE_WORDS = 250
"""Words of the notes before a short answer, at least: about 500 tokens of a prompt."""

Turns = tuple[Message, ...]


def main() -> None:
    """Write the file that the job asks for, and print what is in it."""
    job = json.loads(sys.argv[1])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(job["base"], local_files_only=True)
    renderer = Renderer(tokenizer, frozenset([tokenizer.eos_token_id]), max_tokens=MAX_TOKENS)
    conversations = read_turns(job["source"])
    make = {"ragged": ragged, "long": long, "short-answers": short_answers, "pairs": pairs}
    lines = make[job["shape"]](conversations, renderer)
    with Path(job["path"]).open("w", encoding="utf-8") as file:
        for _ in range(job["count"]):
            file.write(json.dumps(next(lines), ensure_ascii=False) + "\n")


def read_turns(source: str) -> list[Turns]:
    """The conversations of a file, in its order; texts without turns are left out."""
    contents = (row.content for row in read_file(source))
    return [content.messages for content in contents if isinstance(content, Conversation)]


def ragged(conversations: list[Turns], renderer: Renderer) -> Iterator[dict[str, Any]]:
    """The rows as they are, again from the start when they are used up; too long ones left out."""
    for turns in _forever(conversations):
        line = encode(turns, renderer)
        if len(line["input_ids"]) <= MAX_TOKENS:
            yield line


def long(conversations: list[Turns], renderer: Renderer) -> Iterator[dict[str, Any]]:
    """Rows laid into one conversation of many turns, as long as it fits into MAX_TOKENS."""
    turns: Turns = ()
    for more in _forever(conversations):
        body = tuple(message for message in more if message.role != "system")
        if len(encode((*turns, *body), renderer)["input_ids"]) <= MAX_TOKENS:
            turns = (*turns, *body)
        elif turns:
            yield encode(turns, renderer)
            turns = body if len(encode(body, renderer)["input_ids"]) <= MAX_TOKENS else ()


def short_answers(conversations: list[Turns], renderer: Renderer) -> Iterator[dict[str, Any]]:
    """A prompt of several notes and a question about the last one, answered in four words."""
    notes: list[str] = []
    for turns in _forever(conversations):
        notes.append(" ".join(m.content for m in turns if m.role != "system"))
        if sum(len(note.split()) for note in notes) < NOTE_WORDS:
            continue
        listed = "\n\n".join(f"Note {i}: {note}" for i, note in enumerate(notes, 1))
        question = f"{listed}\n\nWhat are the first four words of note {len(notes)}?"
        answer = " ".join(notes[-1].split()[:4])
        line = encode((Message("user", question), Message("assistant", answer)), renderer)
        notes = []
        if len(line["input_ids"]) <= MAX_TOKENS:
            yield line


def pairs(conversations: list[Turns], renderer: Renderer) -> Iterator[dict[str, Any]]:
    """Preference pairs: the answer of a row is chosen, that of the next row rejected."""
    for turns, other in pairwise(_forever(conversations)):
        both = [encode((*turns[:-1], last), renderer) for last in (turns[-1], other[-1])]
        if max(len(line["input_ids"]) for line in both) > MAX_TOKENS:
            continue
        yield {
            "prompt": [message.as_dict() for message in turns[:-1]],
            "chosen": [turns[-1].as_dict()],
            "rejected": [other[-1].as_dict()],
            "tokens": [len(line["input_ids"]) for line in both],
            "num_trained": [sum(line["trained"]) for line in both],
        }


def encode(turns: Turns, renderer: Renderer) -> dict[str, Any]:
    """One line of the file: messages, token ids, and which of them are trained."""
    encoded = renderer.encode(Conversation(turns))
    return {
        "messages": [message.as_dict() for message in turns],
        "input_ids": encoded.input_ids.tolist(),
        "trained": encoded.trained.astype(int).tolist(),
    }


def _forever(conversations: list[Turns]) -> Iterator[Turns]:
    if not conversations:
        raise ValueError("the data holds no conversation")
    while True:
        yield from conversations


if __name__ == "__main__":
    main()
