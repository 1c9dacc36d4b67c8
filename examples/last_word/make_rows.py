"""Writes the rows of this example: lists of words, and the last one as the answer.

Each row shows two solved lists, so that a small model sees what is wanted; it gets about one in
five right by sampling, and every answer can be checked. Held-out rows use words that no training
row has.

    python examples/last_word/make_rows.py
"""

import json
import random
from pathlib import Path

TRAINED = (
    "apple river stone cloud paper green music table light ocean bread window garden silver "
    "mountain letter summer winter bridge candle flower button basket pepper castle forest "
    "island rocket pencil mirror pillow carpet"
)
HELD_OUT = (
    "orange valley copper meadow ribbon lantern saddle kitchen market harbor velvet walnut "
    "turtle spider ladder anchor"
)
ROWS, HELD_OUT_ROWS = 512, 128


def lists(words: str, draw: random.Random) -> list[str]:
    """Three to five different words."""
    return draw.sample(words.split(), draw.randint(3, 5))


def row(words: str, draw: random.Random) -> dict:
    """Two solved lists and a third one, as a conversation."""
    messages = []
    for chosen in (lists(TRAINED, draw), lists(TRAINED, draw), lists(words, draw)):
        messages.append({"role": "user", "content": " ".join(chosen)})
        messages.append({"role": "assistant", "content": chosen[-1]})
    return {"messages": messages}


def main() -> None:
    """Write both files beside this one."""
    draw = random.Random(0)
    for name, words, number in (("train", TRAINED, ROWS), ("heldout", HELD_OUT, HELD_OUT_ROWS)):
        lines = [json.dumps(row(words, draw)) + "\n" for _ in range(number)]
        Path(__file__).with_name(f"{name}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
