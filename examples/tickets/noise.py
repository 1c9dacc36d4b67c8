"""Light noise for customer messages: contractions, slips of the finger, sloppy punctuation."""

import random
import re

CONTRACTIONS = {
    "do not": "don't",
    "does not": "doesn't",
    "did not": "didn't",
    "cannot": "can't",
    "could not": "couldn't",
    "will not": "won't",
    "is not": "isn't",
    "has not": "hasn't",
    "have not": "haven't",
    "was not": "wasn't",
    "would not": "wouldn't",
    "I would": "I'd",
    "I am": "I'm",
    "I will": "I'll",
    "It is": "It's",
    "it is": "it's",
    "There is": "There's",
    "there is": "there's",
    "What is": "What's",
    "We are": "We're",
    "we are": "we're",
}

KEYBOARD_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

# Words that decide a field of the ticket begin with one of these and are never misspelt.
KEY_STEMS = (
    "account",
    "address",
    "arriv",
    "back",
    "bank",
    "basket",
    "bill",
    "broke",
    "burn",
    "card",
    "carrier",
    "charg",
    "clean",
    "courier",
    "crack",
    "damag",
    "dead",
    "debit",
    "defect",
    "deliver",
    "depot",
    "discount",
    "driver",
    "fault",
    "guarantee",
    "instal",
    "invoice",
    "label",
    "login",
    "mail",
    "manual",
    "member",
    "money",
    "newsletter",
    "number",
    "order",
    "paid",
    "parcel",
    "password",
    "pay",
    "price",
    "profile",
    "receipt",
    "refer",
    "refund",
    "register",
    "reimburs",
    "repa",
    "return",
    "setting",
    "ship",
    "sign",
    "spark",
    "stop",
    "track",
    "unsubscribe",
    "work",
)


def contract(text: str) -> str:
    """Shorten 'do not' to "don't" and the like, but never right before punctuation."""
    for long, short in CONTRACTIONS.items():
        text = re.sub(rf"\b{long}(?= \w)", short, text)
    return text


def slip(word: str, rng: random.Random) -> str:
    """Misspell one inner letter: swap it, drop it, double it, or hit a key next to it."""
    i = rng.randrange(1, len(word) - 2)
    kind = rng.choice(("swap", "drop", "double", "neighbour"))
    if kind == "swap":
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    if kind == "drop":
        return word[:i] + word[i + 1 :]
    if kind == "double":
        return word[:i] + word[i] + word[i:]
    row = next(row for row in KEYBOARD_ROWS if word[i] in row)
    at = row.index(word[i])
    return word[:i] + row[at - 1 if at else at + 1] + word[i + 1 :]


def add_typos(text: str, rng: random.Random, keep: set[str], count: int) -> str:
    """Put up to count slips into lower-case words that carry no information for the ticket."""
    spots = [
        m
        for m in re.finditer(r"(?<![\w'-])[a-z]{5,}(?![\w'-])", text)
        if m.group() not in keep and not m.group().startswith(KEY_STEMS)
    ]
    chosen = sorted(rng.sample(spots, min(count, len(spots))), key=lambda m: -m.start())
    for spot in chosen:
        text = text[: spot.start()] + slip(spot.group(), rng) + text[spot.end() :]
    return text


def sloppy(text: str, rng: random.Random) -> str:
    """Drop apostrophes, commas or the last full stop, double marks, or run sentences together."""
    kind = rng.choice(("apostrophe", "comma", "stop", "double", "dots", "run on"))
    if kind == "apostrophe":
        return re.sub(r"(?<=\w)'(?=\w)", "", text)
    if kind == "comma":
        return re.sub(r",(?= (?!order|ref)[a-z])", "", text)
    if kind == "double":
        return re.sub(r"(?<=\w)([?!])(?!\S)", r"\1\1", text)
    if kind == "dots":
        return re.sub(r"(?<=[a-z])\.(?= )", "...", text, count=1)
    if kind == "run on":
        return re.sub(r"(?<=[a-z])\. (?=[a-z])", rng.choice((", ", " ")), text)
    return text.removesuffix(".")
