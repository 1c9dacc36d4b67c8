"""What is thrown at readers: any JSON value, valid ones with faults in them, bytes with faults."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

WORDS = [
    "messages",
    "conversations",
    "role",
    "content",
    "user",
    "assistant",
    "system",
    "tool",
    "developer",
    "function",
    "from",
    "value",
    "human",
    "gpt",
    "tool_calls",
    "tools",
    "name",
    "arguments",
    "id",
    "type",
    "text",
    "parts",
    "weight",
    "loss_weight",
    "reasoning",
    "instruction",
    "input",
    "output",
    "history",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "function_call",
    "thinking",
    "reasoning_content",
    "data",
    "train",
    "model",
    "base",
    "method",
    "adapter",
    "rank",
    "steps",
    "epochs",
    "null",
    "true",
]

DEEP = "[" * 30_000
NASTY = st.sampled_from(
    [
        *(
            DEEP,
            '{"a":' * 20_000,
            "[NaN]",
            "[" + "1" * 5000 + "]",
            "[1]",
            '["\\ud800"]',
            "{}",
            "[[]]",
        ),
        *(10**400, -1, 0.5, 1e308, float("nan"), float("inf"), True, "", " ", "\ud800", "\x00"),
        *([], {}, [[]], [None], [{}], {"a": []}, [[[[[[]]]]]], {"type": ["text"]}),
    ]
)
"""What readers stumble over, put where a text, a list or a number is expected."""

TEXTS = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=12),
    st.text(alphabet=st.characters(), max_size=6),
    st.sampled_from(
        [DEEP, '{"a":' * 20_000, "NaN", "1" * 5000, "\ud800", "\u2028", "\x00", "[]", "[1]", "{}"]
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.just(10**400),
    TEXTS,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)
"""Anything that JSON can say, and floats, surrogates and numbers that it should not."""

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

ROWS: list[dict[str, Any]] = [
    {"messages": TURNS},
    {"messages": [{"role": "system", "content": "s"}, *TURNS, *TURNS], "tools": [TOOL]},
    {
        "messages": [
            TURNS[0],
            {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 0},
            {"role": "tool", "content": "1", "tool_call_id": "1", "name": "f"},
            {"role": "assistant", "content": [{"type": "text", "text": "a"}], "reasoning": "r"},
        ],
        "functions": [TOOL["function"]],
    },
    {"messages": json.dumps(TURNS)},
    {"conversations": TURNS},
    {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
            {"from": "observation", "value": "1"},
            {"from": "gpt", "value": "a", "loss_weight": 1},
        ],
        "system": "s",
        "tools": json.dumps([TOOL]),
    },
    {"instruction": "i", "input": "x", "output": "o", "system": "s", "history": [["q", "a"]]},
    {"instruction": "i", "context": "", "response": "o"},
    {"prompt": "p", "completion": "c"},
    {"prompt": TURNS[:1], "completion": TURNS[1:], "tools": "[]"},
    {"text": "some text"},
]
"""Valid rows of every shape."""


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every part of a value."""
    yield path
    parts = value.items() if isinstance(value, dict) else ()
    parts = enumerate(value) if isinstance(value, list) else parts
    for key, part in parts:
        yield from places(part, (*path, key))


@st.composite
def with_faults(draw: Callable, valid: list[Any], most: int = 3) -> Any:
    """One of the valid values; up to `most` of its parts are replaced, removed or wrapped."""
    value = copy.deepcopy(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(0, most))):
        path = draw(st.sampled_from(list(places(value))[1:] or [()]))
        if path:
            _hurt(draw, value, path)
    return value


def _hurt(draw: Callable, value: Any, path: tuple) -> None:
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    key, kind = path[-1], draw(st.integers(0, 6))
    if kind == 0:
        del holder[key]
    elif kind == 1:
        holder[key] = [holder[key]]
    elif kind == 2 and isinstance(holder, dict):
        holder[draw(TEXTS)] = draw(VALUES)
    elif kind == 3 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[key] = copy.deepcopy(draw(NASTY)) if kind > 4 else draw(VALUES)


def as_json(value: Any) -> bytes:
    """A value as JSON text; half surrogates go in as they are, which is no UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


PIECES = [
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\n", b'"', b"\\ud800", b"\x00", b"NaN", b","),
    *(b"[" * 20_000, b"{" * 2000, b"9" * 5000, b"\xe2\x80\xa8", b"]", b"}"),
]
"""What breaks readers: marks, line ends, quotes, half pairs, depth."""


@st.composite
def with_byte_faults(draw: Callable, valid: Any) -> bytes:
    """Bytes drawn from `valid`, with up to three places cut, doubled, changed or put in."""
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        piece = draw(st.one_of(st.binary(max_size=4), st.sampled_from(PIECES)))
        end = at + draw(st.sampled_from([0, 0, 1, len(piece), 10**6]))
        data[at:end] = piece
    return bytes(data)
