"""Rows of every shape a method may read, so that each method is tested on what its encoder makes.

A shape that is not here fails the contract tests of the methods that read it: add some rows.
"""

from tunesmith.config.section import Section

ROWS = {
    "completion": [
        {"prompt": "one", "completion": " two three"},
        {"prompt": "a longer prompt, of some words", "completion": " yes"},
        {"prompt": "größer", "completion": " 大きい 🙂"},
        {"prompt": "x", "completion": "y"},
    ],
    "text": [
        {"text": "one two three"},
        {"text": "a longer text, of some words: yes"},
        {"text": "größer 大きい 🙂"},
        {"text": "xy"},
    ],
    "preference": [
        {"prompt": "one", "chosen": "two three four", "rejected": "two", "margin": 1},
        {"prompt": "a longer prompt, of some words", "chosen": "y", "rejected": "no", "margin": 2},
        {
            "prompt": "größer",
            "chosen": "大きい 🙂",
            "rejected": "a rather long answer",
            "margin": 0,
        },
        {"prompt": "x", "chosen": "same", "rejected": "some", "margin": 3},
    ],
    "judged": [
        {"prompt": "one", "completion": "two three four", "label": True},
        {"prompt": "a longer prompt, of some words", "completion": "y", "label": False},
        {"prompt": "größer", "completion": "大きい 🙂", "label": True},
        {"prompt": "x", "completion": "a rather long answer", "label": False},
    ],
    "labelled": [
        {"text": "a", "label": "x"},
        {"text": "some longer text, 日本 🙂", "label": "y"},
        {"text": "mid size", "label": "x"},
    ],
    "related": [
        {"query": "q", "positive": "the first of them", "negatives": ["n"]},
        {"query": "what is it?", "positive": "é 🙂", "negatives": ["far off"]},
        {"query": "m", "positive": "p", "negatives": ["z"]},
    ],
}


def rows_for(shapes: frozenset[str]) -> list[dict]:
    """Rows of one of these shapes."""
    known = sorted(shapes & ROWS.keys())
    assert known, f"add rows of one of {sorted(shapes)} to {__file__}"
    return ROWS[known[0]]


def needed_keys(config: type[Section], text: str = "starter") -> dict[str, str]:
    """The keys that a method has no default for, which so far are names of models."""
    return {key: text for key, field in config.model_fields.items() if field.is_required()}
