"""Numbers as people read them."""

from math import inf, nan

import pytest

from tunesmith.runs.report import wording


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (nan, "-"),
        (0, "0s"),
        (0.816, "0.82s"),
        (3.14, "3.1s"),
        (12.4, "12s"),
        (59.7, "1m00s"),
        (130, "2m10s"),
        (3599.9, "1h00m"),
        (3840, "1h04m"),
        (266_400, "3d02h"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (984, "984"),
        (9_999, "9,999"),
        (12_345, "12.3 k"),
        (4_884_480, "4.88 M"),
        (134_515_008, "134.5 M"),
        (7_615_616_512, "7.62 B"),
    ],
)
def test_short_count(number: int | None, text: str) -> None:
    assert wording.short_count(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0394, "0.039"),
        (0.0, "0"),
        (12.3, "12"),
        (1234.5, "1,234"),
        (inf, "not finite"),
    ],
)
def test_figure(value: float | None, text: str) -> None:
    assert wording.figure(value) == text


def test_shares() -> None:
    assert wording.percent(0.9149) == "91.5 %"
    assert wording.small_percent(0.00012) == "0.012 %"
    assert wording.points(-0.0001, signed=True) == "+0.0"
    assert wording.points(0.915, signed=True) == "+91.5"
    assert wording.nats(nan) == "not finite"
    assert wording.num_bytes(19_584_112) == "19.6 MB"
    assert wording.plural(1, "row") == "1 row"


def test_a_moment_is_told_in_utc() -> None:
    assert wording.moment("2026-09-01T09:30:59.123Z") == "2026-09-01 09:30 UTC"
    assert wording.moment("2026-09-01T01:30:00+02:00") == "2026-08-31 23:30 UTC"


def test_no_row_can_steer_a_terminal() -> None:
    steering = "a\x1b[2Jb\x9b31mc\r\x07\td\n\x7f"
    assert wording.printable(steering) == "a␛[2Jb?31mc␍␇\td\n␡"


def test_a_long_text_says_what_is_left_out() -> None:
    assert wording.clipped("a" * 1500, 400) == "a" * 400 + " ... (1,100 more characters)"
    assert wording.clipped("short", 400) == "short"
