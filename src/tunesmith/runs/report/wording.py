"""Numbers as people read them: percent, points, nats, seconds, bytes and counts.

Every function takes None (not measured) and then gives `-`, so that callers need no branch.
"""

from datetime import UTC, datetime
from math import isfinite
from typing import Any

MISSING = "-"
"""Stands for a figure that was not measured."""

DAY, HOUR, MINUTE = 86_400, 3_600, 60


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as `91.5 %`."""
    return MISSING if share is None else f"{100 * share:.{digits}f} %"


def small_percent(share: float | None) -> str:
    """A share as percent with as many digits as it needs: `3.6 %`, `0.012 %`."""
    if share is None:
        return MISSING
    return percent(share) if share >= 0.01 or share == 0 else f"{100 * share:.2g} %"


def points(share: float | None, signed: bool = False) -> str:
    """A difference of two shares in percentage points, without unit: `91.5`, signed `+91.5`."""
    if share is None:
        return MISSING
    # 0.0 is added because a rounded -0.0 would print as "-0.0".
    return f"{round(100 * share, 1) + 0.0:{'+' if signed else ''}.1f}"


def loss_unit(loss: dict[str, Any]) -> str:
    """What a held-out loss is: of a token, or whatever the method counts of a whole row."""
    return "per row" if loss.get("per") == "row" else "nats per token"


def nats(value: float | None, signed: bool = False) -> str:
    """A loss in nats with three digits behind the point, or `not finite`."""
    if value is None:
        return MISSING
    if not isfinite(value):
        return "not finite"
    return f"{value:{'+' if signed else ''}.3f}"


def figure(value: float | None, digits: int = 2) -> str:
    """A number to `digits` significant ones, never in powers of ten unless it is tiny."""
    if value is None:
        return MISSING
    if not isfinite(value):
        return "not finite"
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def count(number: float | None) -> str:
    """A count with separators between thousands: `1,234,567`."""
    return MISSING if number is None else f"{number:,.0f}"


def short_count(number: float | None) -> str:
    """A large count to four digits at most: `984`, `12.3 k`, `134.5 M`, `7.62 B`."""
    if number is None:
        return MISSING
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e4)):
        if number >= size:
            scaled = number / (1e3 if unit == "k" else size)
            return f"{scaled:.2f} {unit}" if scaled < 10 else f"{scaled:.1f} {unit}"
    return count(number)


def gib(value: float | None) -> str:
    """Memory in GiB: `2.1 GiB`."""
    return MISSING if value is None else f"{value:.1f} GiB"


def num_bytes(value: float | None) -> str:
    """A size on disk: `812 B`, `19.6 MB`."""
    if value is None:
        return MISSING
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


def duration(seconds: float | None) -> str:
    """A time span: `0.82s`, `12s`, `2m10s`, `1h04m`, `3d02h`."""
    if seconds is None or not isfinite(seconds):
        return MISSING
    if 0 < seconds < 10:
        return f"{seconds:.2f}s" if seconds < 1 else f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02d}s"
    if whole < DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02d}m"
    return f"{whole // DAY}d{whole % DAY // HOUR:02d}h"


def moment(time: str) -> str:
    """A time of ISO 8601 to the minute, in UTC: `2026-09-01 09:30 UTC`."""
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def plural(number: float, noun: str) -> str:
    """A count and its noun: `1 row`, `200 rows`."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """The text with control characters made visible, so that no row can steer a terminal.

    Newlines and tabs stay; an escape becomes its picture, and the C1 controls a question mark.
    """
    pictures = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
    return text.translate(pictures | {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), "?"))


def clipped(text: str, max_characters: int) -> str:
    """The beginning of a long text, and how much more there was."""
    if len(text) <= max_characters:
        return text
    return f"{text[:max_characters]} ... ({count(len(text) - max_characters)} more characters)"
