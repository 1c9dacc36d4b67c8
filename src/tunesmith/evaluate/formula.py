"""Arithmetic that users write, such as `0.7 * accuracy + 0.3 * min(style, 1)`.

Numbers, names, `+ - * / ^`, parentheses and the functions below: the language of OpenAI's `multi`
grader. It is parsed into a tree by a grammar of five rules, each one method, and never given to
Python:

    sum     = product { (+|-) product }
    product = signed { (*|/) signed }
    signed  = { - | + } power
    power   = atom [ ^ signed ]              right to left; -2 ^ 2 is -4, as in mathematics
    atom    = number | name | function ( sum { , sum } ) | ( sum )
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

MAX_CHARACTERS = 10_000
MAX_DEPTH = 100
"""Of parentheses, powers and signs inside each other; Python's own stack ends at 1,000 calls."""

FUNCTIONS: dict[str, tuple[Callable[..., float], bool]] = {
    "min": (min, True),
    "max": (max, True),
    "abs": (abs, False),
    "floor": (math.floor, False),
    "ceil": (math.ceil, False),
    "exp": (math.exp, False),
    "sqrt": (math.sqrt, False),
    "log": (math.log, False),
}
"""By name: what it computes, and whether it takes any number of values rather than one.

`log` is the natural logarithm.
"""

_TOKEN = re.compile(
    r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(.))"
)

Value = Callable[[Mapping[str, float]], float]


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that was parsed.

    Attributes:
        names: Those that stand in it, in order of first use.
        value: Its value for given values of the names.
    """

    names: tuple[str, ...]
    value: Value

    def __call__(self, values: Mapping[str, float]) -> float:
        """The value.

        Args:
            values: For each of `names`.

        Raises:
            ValueError: It has none there: a division by 0, a root or logarithm of a negative
                number, a number too large.
        """
        try:
            result = self.value(values)
        except (ArithmeticError, ValueError):
            result = math.nan
        if isinstance(result, complex) or not math.isfinite(result):
            given = ", ".join(f"{name} = {values[name]:g}" for name in self.names)
            raise ValueError(f"the formula has no value{given and f' at {given}'}")
        return float(result)


def parse(text: str, names: Collection[str]) -> Formula:
    """Read a formula.

    Args:
        text: The formula.
        names: Those it may use.

    Raises:
        ValueError: What was expected, what stands there instead, and at which character, from 1.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"at most {MAX_CHARACTERS:,} characters")
    parser = _Parser(_tokens(text), names)
    value = parser.sum()
    if parser.token.kind != "end":
        raise parser.wrong("an operator or the end")
    return Formula(tuple(dict.fromkeys(parser.used)), value)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        kind = ("number", "name", "mark")[match.lastindex - 1]
        found.append(_Token(kind, match[match.lastindex], match.start(match.lastindex) + 1))
        at = match.end()
    return [*found, _Token("end", "", len(text) + 1)]


@dataclass
class _Parser:
    tokens: list[_Token]
    names: Collection[str]
    used: list[str] = field(default_factory=list)
    at: int = 0
    depth: int = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def wrong(self, expected: str) -> ValueError:
        """The error of what stands here."""
        got = repr(self.token.text) if self.token.text else "the end"
        return ValueError(f"{expected} at character {self.token.position}, not {got}")

    def take(self, *marks: str) -> str:
        """The mark that stands here, if it is one of these, passed over; else an empty text."""
        if self.token.kind == "mark" and self.token.text in marks:
            self.at += 1
            return self.tokens[self.at - 1].text
        return ""

    def need(self, mark: str) -> None:
        """Pass over `mark`, or raise."""
        if not self.take(mark):
            raise self.wrong(mark)

    def sum(self) -> Value:
        """Products, added and subtracted."""
        value = self.product()
        while mark := self.take("+", "-"):
            value = _apply(mark, value, self.product())
        return value

    def product(self) -> Value:
        """Powers, multiplied and divided."""
        value = self.signed()
        while mark := self.take("*", "/"):
            value = _apply(mark, value, self.signed())
        return value

    def signed(self) -> Value:
        """A power behind any number of signs."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.wrong(f"at most {MAX_DEPTH} levels")
        if mark := self.take("-", "+"):
            inner = self.signed()
            value = (lambda values: -inner(values)) if mark == "-" else inner
        else:
            value = self.power()
        self.depth -= 1
        return value

    def power(self) -> Value:
        """A value, raised to another where there is a ^."""
        value = self.atom()
        return _apply("^", value, self.signed()) if self.take("^") else value

    def atom(self) -> Value:
        """A number, a name, a function with its values, or a formula in parentheses."""
        token = self.token
        if token.kind == "number":
            self.at += 1
            number = float(token.text)
            return lambda values: number
        if token.kind == "name":
            return self.named()
        if self.take("("):
            value = self.sum()
            self.need(")")
            return value
        raise self.wrong("a number, a name or (")

    def named(self) -> Value:
        """A function with its values, or a name."""
        name, following = self.token.text, self.tokens[self.at + 1]
        if name in FUNCTIONS and following.text == "(":
            self.at += 2
            return self.called(name)
        if name not in self.names:
            raise self.wrong(f"one of {', '.join([*self.names, *FUNCTIONS])}")
        self.at += 1
        self.used.append(name)
        return lambda values: values[name]

    def called(self, name: str) -> Value:
        """The function `name` of the values up to the closing parenthesis."""
        function, many = FUNCTIONS[name]
        parts = [self.sum()]
        while many and self.take(","):
            parts.append(self.sum())
        self.need(")")
        if many and len(parts) == 1:
            return parts[0]
        return lambda values: function(*(part(values) for part in parts))


def _apply(mark: str, left: Value, right: Value) -> Value:
    match mark:
        case "+":
            return lambda values: left(values) + right(values)
        case "-":
            return lambda values: left(values) - right(values)
        case "*":
            return lambda values: left(values) * right(values)
        case "/":
            return lambda values: left(values) / right(values)
    return lambda values: left(values) ** right(values)
