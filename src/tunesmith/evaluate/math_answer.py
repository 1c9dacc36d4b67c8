r"""From what a model wrote about a problem in mathematics to the value of its answer.

The answer is the first of these that there is: the last `\boxed{...}`; what follows the last `####`
(GSM8K); what follows the last "answer is", "answer:" or "="; the whole text, if it is a value;
the last number in it. LaTeX is rewritten as the arithmetic of `formula.py`, which gives the value:
nothing is run.
"""

import re

from tunesmith.evaluate.formula import parse

MAX_CHARACTERS = 2_000
"""An answer that is longer is compared as a text."""

CONSTANTS = {"pi": 3.141592653589793}

_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|\d)(?:[eE][-+]?\d+)?|[-+]?\d+"
_LAST = re.compile(rf"(?:\\?\$\s*)?(?:{_NUMBER})(?:\s*/\s*\d+)?(?:\s*\\?%)?")
_SAYS = re.compile(
    r"(?:answer\s*(?:is|:)|=)\s*([^=\n]+?)\s*(?:\.\s|\.?$)", re.IGNORECASE | re.MULTILINE
)
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:(?:,|\{,\}|\\,|\\!)+\d{3})+(?!\d)")
_DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|mathrm|mbox|textbf|bf|!|,|;|:|\s|quad|qquad)(?![a-zA-Z])|\\?\$"
    r"|\^\s*\{?\s*\\circ\s*\}?|°|€|£|\*\*"
)
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox|operatorname)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_ROOT = re.compile(r"\\sqrt\s*(?:\{([^{}]*)\}|(\d))")
_MIXED = re.compile(r"(?<![\w.)}])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])")
_UNIT = re.compile(r"(?<=[\d)])\s*(?!pi\b)[a-zA-Z]{2,}(?:\s+[a-zA-Z]+)*\s*(?:\^\s*\d)?\s*\.?$")
_REWRITTEN = {
    "\N{MINUS SIGN}": "-",
    "\N{MULTIPLICATION SIGN}": "*",
    "·": "*",
    "÷": "/",
    "π": " pi ",
    "\\cdot": "*",
    "\\times": "*",
    "\\div": "/",
    "\\pi": " pi ",
    "\\{": "{",
    "\\}": "}",
}


def answer_in(text: str, last_number: bool = True) -> str:
    """The part of `text` that is its answer, as it stands there.

    Args:
        text: What was written.
        last_number: Whether the last number counts where nothing else is marked; else the whole
            text does.
    """
    boxed = _boxed(text)
    if boxed is not None:
        return boxed.strip()
    if "####" in text:
        return text.rpartition("####")[2].strip().partition("\n")[0].strip()
    if numbers_of(text) is not None:
        return text.strip()
    for said in reversed(_SAYS.findall(text[-MAX_CHARACTERS:])):
        if numbers_of(said) is not None:
            return said.strip()
    numbers = _LAST.findall(text[-MAX_CHARACTERS:]) if last_number else []
    return (numbers[-1] if numbers else text).strip()


def numbers_of(text: str) -> list[tuple[float, bool]] | None:
    r"""The values of an answer, in order: one, or those of a pair, a list or a set.

    Args:
        text: Such as `1,234`, `-3/4`, `\frac{1}{2}`, `12.5\%`, `2\sqrt{3}`, `(1, 2)`, `x = 5`.

    Returns:
        Each value, and whether a percent sign stands behind it; it is not divided by 100. None
        where a part has no value.
    """
    plain = plain_text(text)
    if len(plain) > MAX_CHARACTERS or not plain:
        return None
    values = [_value(part) for part in _parts(plain)]
    return None if None in values else values


def plain_text(text: str) -> str:
    """LaTeX as plain arithmetic, as far as it is known; for comparing answers without a value."""
    if len(text) > MAX_CHARACTERS:
        return text
    text = _THOUSANDS.sub(lambda match: re.sub(r"[^\d]", "", match[0]), text)
    text = _TEXT.sub(r" \1 ", text)
    text = _DROPPED.sub(" ", text)
    for before, after in _REWRITTEN.items():
        text = text.replace(before, after)
    text = _innermost_first(text).replace("{", "(").replace("}", ")")
    return " ".join(text.split()).rstrip(".").strip()


def _innermost_first(text: str) -> str:
    """Fractions and roots as `((a)/(b))` and `sqrt(a)`, those without braces inside first."""
    while True:
        new = _FRACTION.sub(lambda m: f"(({m[1] or m[2]})/({m[3] or m[4]}))", text)
        new = _ROOT.sub(lambda m: f" sqrt({m[1] or m[2]})", new)
        new = re.sub(r"\^\s*\{([^{}]*)\}", r"^(\1)", new)
        if new == text:
            return new
        text = new


def _boxed(text: str) -> str | None:
    r"""The inside of the last `\boxed{...}`; None where there is none that closes."""
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    opened = text.index("{", start)
    depth = 0
    for at in range(opened, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return text[opened + 1 : at]
    return None


def _parts(plain: str) -> list[str]:
    """What commas part, within brackets around it all or without any."""
    inner = plain
    if inner[0] in "([" and inner[-1] in ")]" and "," in inner and _closes_at_end(inner):
        inner = inner[1:-1]
    parts, depth, start = [], 0, 0
    for at, character in enumerate(inner):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append(inner[start:at])
            start = at + 1
    return [*parts, inner[start:]]


def _closes_at_end(text: str) -> bool:
    """Whether the bracket that opens `text` is closed by its last one."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if depth == 0:
            return at == len(text) - 1
    return False


def _value(part: str) -> tuple[float, bool] | None:
    """The value of one part, and whether it is in percent."""
    part = re.sub(r"^\s*[a-zA-Z]\w*\s*=", "", part).strip()
    percent = part.endswith("%") or part.endswith("percent")
    part = part.removesuffix("percent").rstrip("%").rstrip("\\ ")
    part = _UNIT.sub("", part)
    part = _MIXED.sub(r"(\1+\2/\3)", part)
    # A number before a root, a constant or a bracket multiplies it.
    part = re.sub(r"(?<=[\d)])\s*(?=sqrt|pi\b|\()", "*", part)
    try:
        return parse(part, CONSTANTS)(CONSTANTS), percent
    except ValueError:
        return None
