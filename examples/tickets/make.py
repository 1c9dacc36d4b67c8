"""Write the ticket data set: train.jsonl and heldout.jsonl, next to this file.

Usage: python examples/tickets/make.py

Each row is a customer message and the JSON ticket it stands for. The sentences come from
pools/*.txt (one a line, "tags | text" or just "text"). The code only picks, joins and
roughens them with a fixed seed, so every run writes the same bytes.
"""

import json
import random
from pathlib import Path

from lines import CATEGORIES, Line, split_pools
from writer import Writer

HERE = Path(__file__).resolve().parent
SEED = 20240611
TRAIN_ROWS, HELDOUT_ROWS = 1000, 200
MIN_WORDS, MAX_WORDS = 8, 90
SYSTEM = (
    "Turn the customer message into a JSON ticket with the keys category, product, order "
    "and urgent. Answer with the JSON only."
)


def make_rows(writer: Writer, numbers: list[str]) -> list[dict[str, list[dict[str, str]]]]:
    """One row for each order number: categories in turn, the situations of each in turn."""
    rng, seen, rows = writer.rng, set(), []
    queues: dict[str, list[Line]] = {category: [] for category in CATEGORIES}
    for i, number in enumerate(numbers):
        category = CATEGORIES[i % len(CATEGORIES)]
        if not queues[category]:
            queues[category] = rng.sample(writer.pools[category], len(writer.pools[category]))
        situation = queues[category].pop()
        while True:
            text, answer = writer.write(situation, category, number)
            if text not in seen and MIN_WORDS <= len(text.split()) <= MAX_WORDS:
                break
        seen.add(text)
        roles = ("system", SYSTEM), ("user", text), ("assistant", answer)
        rows.append({"messages": [{"role": role, "content": said} for role, said in roles]})
    rng.shuffle(rows)
    return rows


def main() -> None:
    """Write both files."""
    rng = random.Random(SEED)
    train, heldout = split_pools(HERE / "pools", rng)
    products = json.loads((HERE / "products.json").read_text(encoding="utf-8"))
    numbers = [str(n) for n in rng.sample(range(10000, 100000), TRAIN_ROWS + HELDOUT_ROWS)]
    files = {
        "train.jsonl": make_rows(Writer(rng, train, train, products), numbers[:TRAIN_ROWS]),
        "heldout.jsonl": make_rows(Writer(rng, heldout, train, products), numbers[TRAIN_ROWS:]),
    }
    for name, rows in files.items():
        (HERE / name).write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode())


if __name__ == "__main__":
    main()
