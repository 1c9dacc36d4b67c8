"""The lines of the pools: their tags, and how they are parted between the splits."""

import random
from dataclasses import dataclass
from pathlib import Path

CATEGORIES = ("delivery", "refund", "broken", "invoice", "account", "question")
REGISTERS = {"formal": 20, "plain": 30, "casual": 24, "terse": 12, "angry": 14}  # with weights
ROLES = frozenset({"lead", "tail", "ps"})  # where a phrase goes, if not as its own sentence
SPLIT_PHRASES = ("orders", "urgent")
HELDOUT_SHARE = 0.2


@dataclass(frozen=True)
class Voice:
    """Who is speaking: the register of the message and what it is about."""

    register: str
    category: str


@dataclass(frozen=True)
class Line:
    """One line of a pool and its tags.

    A register or category as a tag limits the line to it, with a minus it keeps the line out.
    """

    text: str
    tags: frozenset[str]

    def fits(self, voice: Voice) -> bool:
        """Whether somebody with this voice may say the line."""
        if self.tags & {f"-{voice.register}", f"-{voice.category}"}:
            return False
        registers, categories = self.tags & REGISTERS.keys(), self.tags & {*CATEGORIES}
        return (not registers or voice.register in registers) and (
            not categories or voice.category in categories
        )


Pools = dict[str, list[Line]]


def read_pool(path: Path) -> list[Line]:
    """Read the lines of one pool, without comments."""
    lines = []
    for raw in path.read_text(encoding="utf-8").splitlines():
        if raw and not raw.startswith("#"):
            tags, _, text = raw.rpartition(" | ")
            lines.append(Line(text, frozenset(tags.split())))
    return lines


def split_pools(folder: Path, rng: random.Random) -> tuple[Pools, Pools]:
    """Read all pools; situations and order/urgency phrases are parted, the rest is shared."""
    train: Pools = {}
    heldout: Pools = {}
    for path in sorted(folder.glob("*.txt")):
        lines = read_pool(path)
        train[path.stem] = heldout[path.stem] = lines
        if path.stem in CATEGORIES + SPLIT_PHRASES:
            shuffled = rng.sample(lines, len(lines))
            cut = round(len(lines) * HELDOUT_SHARE)
            train[path.stem], heldout[path.stem] = shuffled[cut:], shuffled[:cut]
    return train, heldout
