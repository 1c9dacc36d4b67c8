"""Puts lines of the pools together to customer messages, each with its ticket."""

import json
import random
import re
from collections import Counter

from lines import REGISTERS, ROLES, Line, Pools, Voice
from noise import add_typos, contract, sloppy

URGENT_SHARE = 0.35  # of all messages
LEAD_SHARE = 0.15  # of the urgent messages open with the urgency
CALM_SHARE = 0.12  # of the other messages say that there is no hurry
ORDER_SHARE = {False: 0.84, True: 0.4}  # of the messages that could name an order; True: bare
ABOUT_SHARE = 0.7  # of the situations without a product get a sentence that names one
VAGUE_SHARE = 0.04  # of the situations with a product say "the item" instead
UNSEEN_SHARE = 0.5  # of the order and urgency phrases in heldout are not in train

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLOURS_AND_BRANDS = (
    "red",
    "black",
    "white",
    "grey",
    "blue",
    "silver",
    "Okeby",
    "Harrowmill",
    "Veldora",
    "Lumquist",
    "Pellingford",
    "Tarnbeck",
)
GENERIC_NOUNS = ("appliance", "item", "device")

# How often each optional part of a message occurs, by register.
PARTS = ("greetings", "openings", "asides", "closings", "signoffs")
PART_SHARES: dict[str, tuple[float, ...]] = {
    "formal": (0.95, 0.5, 0.35, 0.7, 0.9),
    "plain": (0.8, 0.55, 0.4, 0.6, 0.65),
    "casual": (0.7, 0.65, 0.5, 0.45, 0.45),
    "angry": (0.35, 0.75, 0.6, 0.5, 0.35),
    "terse": (0.0, 0.0, 0.0, 0.0, 0.0),
}
# Chance of contractions, a typo, sloppy punctuation and all lower case, by register.
NOISE: dict[str, tuple[float, float, float, float]] = {
    "formal": (0.0, 0.0, 0.0, 0.0),
    "plain": (0.6, 0.2, 0.1, 0.04),
    "casual": (0.9, 0.4, 0.5, 0.45),
    "angry": (0.8, 0.25, 0.5, 0.1),
    "terse": (0.8, 0.25, 0.4, 0.35),
}

Phrase = dict[str, str]  # the text of an order or urgency phrase by its role, or empty


class Writer:
    """Writes the rows of one split from its pools."""

    def __init__(
        self, rng: random.Random, pools: Pools, known: Pools, products: dict[str, list[str]]
    ) -> None:
        """Known are the training pools, which heldout messages may use for some phrases."""
        self.rng, self.pools, self.known, self.products = rng, pools, known, products
        self.kinds = frozenset(kind for kinds in products.values() for kind in kinds)
        self.used: Counter[str] = Counter()
        self.names = {tag: line.text.split() for line in pools["names"] for tag in line.tags}
        self.key_words = {word for name in products for word in f"{name} {name}s".split()}

    def write(self, situation: Line, category: str, number: str) -> tuple[str, str]:
        """One message about the situation, and the JSON ticket for it."""
        voice = self.voice(situation, category)
        told, product = self.tell(situation, voice)
        order = self.order_phrase(situation, voice, number)
        urgent = self.chance(URGENT_SHARE)
        urgency = self.urgency_phrase(urgent, voice)
        if "tail" in order:
            told[0] = insert_tail(told[0], order["tail"], product)
        sentences = self.arrange(told, order, urgency, voice)
        if not order and not situation.tags & {"no_order", "bare"} and self.chance(0.2):
            sentences.append(self.pick("no_order", voice))
        lower = self.chance(NOISE[voice.register][3])
        body = self.roughen(sentences, {*order.values(), *urgency.values()}, voice, lower)
        text = self.lay_out(body, order, urgency, voice)
        ticket = {
            "category": category,
            "product": product,
            "order": number if order else None,
            "urgent": urgent,
        }
        return text.lower() if lower else text, json.dumps(ticket, separators=(", ", ": "))

    def chance(self, probability: float) -> bool:
        """Toss a loaded coin."""
        return self.rng.random() < probability

    def voice(self, situation: Line, category: str) -> Voice:
        """Choose a register that suits the situation; nobody asks a question in anger."""
        usable = {
            name: weight
            for name, weight in REGISTERS.items()
            if situation.fits(Voice(name, category)) and (category, name) != ("question", "angry")
        }
        return Voice(self.rng.choices(list(usable), list(usable.values()))[0], category)

    def pick(self, pool: str, voice: Voice, role: str = "") -> str:
        """A fitting line of a pool; role is lead, tail or ps, or empty for a whole sentence."""
        pools = [self.pools[pool], self.known[pool]]
        if not self.chance(UNSEEN_SHARE):
            pools.reverse()
        for lines in pools:
            fitting = [
                line.text
                for line in lines
                if line.fits(voice) and line.tags & ROLES == ({role} if role else set())
            ]
            if fitting:
                return self.rng.choice(fitting)
        raise ValueError(f"pool {pool} has no line for {voice}, role {role!r}")

    def optional(self, pool: str, voice: Voice) -> list[str]:
        """A line of an optional part, or nothing."""
        wanted = self.chance(PART_SHARES[voice.register][PARTS.index(pool)])
        return [self.pick(pool, voice)] if wanted else []

    def tell(self, situation: Line, voice: Voice) -> tuple[list[str], str | None]:
        """The sentences that tell the situation, and the product they name."""
        wanted = situation.tags & self.kinds
        product = self.product(wanted)
        dressed = "plain_product" not in situation.tags
        if "product" in situation.text:
            vague = voice.category not in ("account", "question") and not wanted
            if vague and self.chance(VAGUE_SHARE):
                noun = self.rng.choice(GENERIC_NOUNS)
                return [self.name_product(situation.text, noun, dressed=False)], None
            return [self.name_product(situation.text, product, dressed)], product
        if "bare" in situation.tags or not self.chance(ABOUT_SHARE):
            return [situation.text], None
        told = [self.name_product(self.pick("about", voice), product, dressed), situation.text]
        return told if self.chance(0.5) else told[::-1], product

    def product(self, wanted: frozenset[str]) -> str:
        """A product of the wanted kinds, more often one that was rare so far."""
        usable = [name for name, kinds in self.products.items() if wanted <= {*kinds}]
        few = self.rng.sample(usable, min(4, len(usable)))
        product = min(few, key=lambda name: self.used[name])
        self.used[product] += 1
        return product

    def name_product(self, text: str, noun: str, dressed: bool) -> str:
        """Fill the product slots of a sentence, perhaps with an adjective or capitals."""
        if dressed and self.chance(0.2):
            noun = f"{self.rng.choice(COLOURS_AND_BRANDS)} {noun}"
        elif noun in self.products and self.chance(0.1):
            noun = noun.title()
        article = "an" if noun[0].lower() in "aeio" else "a"
        text = text.replace("{a_product}", f"{article} {noun}")
        return text.replace("{products}", f"{noun}s").replace("{product}", noun)

    def order_phrase(self, situation: Line, voice: Voice, number: str) -> Phrase:
        """The order phrase by its role; nothing if the message names no order."""
        bare = "bare" in situation.tags
        if "no_order" in situation.tags or not self.chance(ORDER_SHARE[bare]):
            return {}
        weights = {"": 50, "tail": 26, "lead": 16, "ps": 8}
        if voice.register == "terse":
            weights = {"": 35, "tail": 35, "lead": 30}
        if bare:
            weights = {"": 1}
        role = self.rng.choices(list(weights), list(weights.values()))[0]
        text = self.pick("orders", voice, role).replace("{order}", number)
        return {role or "line": text}

    def urgency_phrase(self, urgent: bool, voice: Voice) -> Phrase:
        """The urgency phrase by its role, or at times a line that says there is no hurry."""
        angry = voice.register == "angry"
        if urgent:
            role = "lead" if not angry and self.chance(LEAD_SHARE) else ""
            text = self.pick("urgent", voice, role).replace("{day}", self.rng.choice(DAYS))
            return {role or "line": text}
        if not angry and self.chance(CALM_SHARE):
            return {"line": self.pick("calm", voice)}
        return {}

    def arrange(self, told: list[str], order: Phrase, urgency: Phrase, voice: Voice) -> list[str]:
        """All sentences between greeting and sign-off, in a natural order."""
        opening = self.optional("openings", voice)
        if opening and voice.register in ("plain", "casual") and self.chance(0.25):
            opening = list(dict.fromkeys([*opening, self.pick("openings", voice)]))
        aside = self.optional("asides", voice)
        closing = self.optional("closings", voice)
        early = [order["line"]] if "line" in order and self.chance(0.25) else []
        late = [part["line"] for part in (order, urgency) if "line" in part]
        late = [text for text in late if text not in early]
        self.rng.shuffle(late)
        if late and self.chance(0.3):
            closing.append(late.pop())
        return opening + early + told + aside + late + closing

    def roughen(self, sentences: list[str], safe: set[str], voice: Voice, lower: bool) -> str:
        """Join the sentences and add noise; the safe ones get no slips of the finger."""
        contractions, typo, careless, _ = NOISE[voice.register]
        at = self.rng.randrange(len(sentences))
        if sentences[at] not in safe and self.chance(typo):
            count = self.rng.choice((1, 1, 2))
            sentences[at] = add_typos(sentences[at], self.rng, self.key_words, count)
        body = " ".join([*map(end_sentence, sentences[:-1]), sentences[-1]])
        body = contract(body) if self.chance(contractions) else body
        body = body.lower() if lower else body
        return sloppy(body, self.rng) if self.chance(careless) else body

    def lay_out(self, body: str, order: Phrase, urgency: Phrase, voice: Voice) -> str:
        """Put greeting and sign-off around the body, as an e-mail or as one line of chat."""
        leads = [part["lead"] for part in (urgency, order) if "lead" in part]
        leads.sort(key=lambda text: not text.endswith("~"))  # a subject line comes first
        greeting = []
        if not leads or leads[-1].endswith("~"):
            greeting = self.optional("greetings", voice)
        mail = voice.register == "formal" or (voice.register == "plain" and self.chance(0.6))
        ending = [self.sign(text) for text in self.optional("signoffs", voice)]
        ending = [text.replace("~", "\n" if mail else " ") for text in ending]
        ending += [order["ps"]] if "ps" in order else []
        text = ("\n\n" if mail else " ").join([*greeting, body, *ending])
        return " ".join([*leads, text]).replace("~ ", "\n")

    def sign(self, text: str) -> str:
        """Fill a sign-off with a made-up name."""
        for slot in ("first", "last", "town"):
            text = text.replace("{name}", "{first} {last}")
            text = text.replace(f"{{{slot}}}", self.rng.choice(self.names[slot]))
        return text


def end_sentence(text: str) -> str:
    """Put a full stop after a sentence that has none, for another one follows."""
    return text if text[-1] in ".?!:" else text + "."


def insert_tail(text: str, tail: str, product: str | None) -> str:
    """Put an order phrase at the end of the sentence that names the product, or the first."""
    space = "" if tail.startswith(",") else " "
    start = max(0, text.lower().find(product or ""))
    end = re.search(r"[.?!](?=\s|$)", text[start:])
    at = start + end.start() if end else len(text)
    return text[:at] + space + tail + text[at:]
