import math
import re

import pytest

from tunesmith.evaluate.formula import parse

VALUES = {"a": 3.0, "b": 0.5, "min": 7.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1), (" 1.5 ", 1.5), (".5", 0.5), ("2.", 2), ("1e3", 1000), ("2.5E-1", 0.25),
        ("a", 3), ("a+b", 3.5), ("a - b - 1", 1.5), ("a - (b - 1)", 3.5), ("2 * a + b", 6.5),
        ("2 + a * b", 3.5), ("a / 2 / 3", 0.5), ("a / (2 / 3)", 4.5), ("2 ^ 3 ^ 2", 512),
        ("-2 ^ 2", -4), ("(-2) ^ 2", 4), ("2 ^ -1", 0.5), ("-a", -3), ("--a", 3), ("+a", 3),
        ("2 * -a", -6), ("a^b", math.sqrt(3)), ("-a * -b", 1.5),
        ("min(a, b)", 0.5), ("max(a, b, 9)", 9), ("min(a)", 3), ("abs(b - a)", 2.5),
        ("floor(2.7)", 2), ("ceil(2.1)", 3), ("floor(-0.5)", -1), ("exp(0)", 1),
        ("log(exp(2))", 2), ("sqrt(a * a)", 3), ("min", 7), ("min + min(1, 2)", 8),
        ("max(0, min(1, 0.8*a + 0.2*b))", 1), ("((((a))))", 3), ("\ta\n*\n2", 6),
    ],
)  # fmt: skip
def test_values_are_those_of_arithmetic(text, expected):
    assert parse(text, VALUES)(VALUES) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a number, a name or ( at character 1, not the end"),
        ("a +", "a number, a name or ( at character 4, not the end"),
        ("a ** 2", "a number, a name or ( at character 4, not '*'"),
        ("(a", ") at character 3, not the end"),
        ("a)", "an operator or the end at character 2, not ')'"),
        ("a b", "an operator or the end at character 3, not 'b'"),
        ("a + c", "one of a, b, min, min, max, abs, floor, ceil, exp, sqrt, log at character 5"),
        ("c(a)", "at character 1, not 'c'"),
        ("abs(a, b)", ") at character 6, not ','"),
        ("min()", "a number, a name or ( at character 5, not ')'"),
        ("abs a", "one of a, b, min"),
        ("a.real", "an operator or the end at character 2, not '.'"),
        ("__import__('os')", "one of a, b, min"),
        ("1_000", "an operator or the end at character 2, not '_000'"),
        ("a % 2", "an operator or the end at character 3, not '%'"),
        ("a < b", "an operator or the end at character 3, not '<'"),
        ("2a", "an operator or the end at character 2, not 'a'"),
        ("\N{MULTIPLICATION SIGN}", "a number, a name or ( at character 1"),
        ("(" * 5000 + "a" + ")" * 5000, "at most 10,000 characters"),
        ("(" * 4000 + "a", "at most 100 levels at character 101"),
        ("-" * 4000 + "a", "at most 100 levels at character 101"),
        ("a" + "^a" * 4000, "at most 100 levels"),
    ],
)  # fmt: skip
def test_an_error_names_what_was_expected_and_where(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(text, VALUES)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1 / (a - 3)", " at a = 3"), ("sqrt(0 - a)", " at a = 3"), ("log(0)", ""),
        ("exp(1000)", ""), ("10 ^ 400", ""), ("(0 - 8) ^ b", " at b = 0.5"), ("0 ^ -1", ""),
        ("1e308 * 10", ""),
        ("floor(1e308 * 10) + b / a", " at b = 0.5, a = 3"),
    ],
)  # fmt: skip
def test_a_formula_without_a_value_says_so(text, at):
    formula = parse(text, VALUES)
    with pytest.raises(ValueError, match=f"the formula has no value{at}$"):
        formula(VALUES)


def test_names_are_those_that_stand_in_it():
    assert parse("b + min(b, a) * min", VALUES).names == ("b", "a", "min")
    assert parse("1 + 1", VALUES).names == ()


def test_long_sums_are_read():
    assert parse("+".join(["a"] * 300), VALUES)(VALUES) == 900
