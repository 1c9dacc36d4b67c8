import pytest

from tunesmith.evaluate import graders
from tunesmith.evaluate.math_answer import answer_in, numbers_of

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so $\boxed{\frac{1}{2}}$, not 3", r"\frac{1}{2}"),
        (r"\boxed{1} and then \boxed{2}", "2"),
        ("48/2 = <<48/2=24>>24 clips.\n#### 72", "72"),
        ("#### 1,234\nthank you 5", "1,234"),
        ("42", "42"),
        ("The answer is 7.", "7"),
        ("Answer: **7**", "**7**"),
        ("x + 1 = 3, so x = 2", "2"),
        ("She had 18 eggs", "18"),
        ("It costs $1,250.50 now.", "$1,250.50"),
        ("nothing at all", "nothing at all"),
        (r"an open \boxed{5", "5"),
        ("", ""),
    ],
)
def test_the_answer_is_found(text, expected):
    assert answer_in(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", 42), ("-3", -3), (f"{MINUS}3", -3), ("+3", 3), (".5", 0.5), ("1e3", 1000),
        ("1,234", 1234), ("1,234,567.5", 1234567.5), (r"12{,}345", 12345), (r"1\,000", 1000),
        ("$18", 18), (r"\$18", 18), ("18 dollars", 18), (r"5\text{ cm}", 5), ("90^\\circ", 90),
        ("5.", 5), ("3/4", 0.75), (r"\dfrac{3}{4}", 0.75), (r"\frac34", 0.75),
        (r"-\frac{1}{2}", -0.5), (r"\frac{\sqrt{16}}{2}", 2), (r"\sqrt{2}", 2**0.5),
        (r"3\sqrt{4}", 6), (r"\sqrt9", 3), ("2^{10}", 1024), ("2^3", 8), (r"2 \cdot 3", 6),
        (r"2\times 3", 6), ("3 1/2", 3.5), (r"\left( 3 \right)", 3), (r"2\pi", 6.283185307179586),
        ("x = 5", 5), ("1/3 + 1/6", 0.5), ("(1 + 2) * 3", 9),
    ],
)  # fmt: skip
def test_one_value(text, expected):
    ((value, percent),) = numbers_of(text)
    assert value == pytest.approx(expected, rel=1e-12)
    assert not percent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1, 2)", [1, 2]), ("[1, 2)", [1, 2]), (r"\{1, 2, 3\}", [1, 2, 3]), ("1, 2", [1, 2]),
        (r"\left(3, \frac{\pi}{2}\right)", [3, 1.5707963267948966]), ("(1 + 1)*2, 3", [4, 3]),
    ],
)  # fmt: skip
def test_several_values(text, expected):
    assert [value for value, _ in numbers_of(text)] == pytest.approx(expected)


@pytest.mark.parametrize("text", ["50%", r"50\%", "50 %", "50 percent"])
def test_percent(text):
    assert numbers_of(text) == [(50.0, True)]


@pytest.mark.parametrize(
    "text",
    [
        "", "Paris", "x + 1", "1/0", "10^400", "9**9**9", "1;2", "__import__('os')", "(1", "1 2",
        "9" * 3000, "(" * 1000, "\\frac{" * 300, "-" * 1900 + "1", "a\x00b",
    ],
)  # fmt: skip
def test_what_has_no_value(text):
    assert numbers_of(text) is None


@pytest.mark.parametrize(
    ("output", "reference", "expected"),
    [
        ("She has 24 left.", "48/2 = <<48/2=24>>24\n#### 24", 1), ("24.0", "#### 24", 1),
        ("25", "#### 24", 0), ("24 or 25", "#### 24", 0),
        ("0.333333333", r"\frac{1}{3}", 1), ("0.33", r"\frac{1}{3}", 0),
        ("50%", "0.5", 1), ("0.5", "50%", 1), ("50%", "50", 1), ("50", "50%", 1), ("5%", "50%", 0),
        ("0.005", "50%", 0), ("(1,2)", "(1, 2)", 1), ("(2,1)", "(1, 2)", 0), ("1", "(1, 2)", 0),
        ("x^{2}+1", "x^2 + 1", 0), ("x^2+1", "x^2 + 1", 1),
        ("2x+1", "3x+1", 0), (r"so \boxed{2x + 1}", "2x+1", 1), ("Paris", "Paris", 1),
        ("paris", "Paris", 0), ("", "24", 0), ("24", "Paris", 0), ("0", "0.0", 1),
        ("nan", "24", 0), ("inf", "24", 0), ("\N{ARABIC-INDIC DIGIT TWO}", "2", 1),
    ],
)  # fmt: skip
def test_math_equal(output, reference, expected):
    assert graders.build("math_equal")(output, reference, {}) == expected


def test_the_tolerance_is_a_share_of_the_right_number():
    assert graders.build({"type": "math_equal", "tolerance": 0.01})("100.9", "100", {}) == 1
    assert graders.build({"type": "math_equal", "tolerance": 0.01})("101.1", "100", {}) == 0


def test_a_right_answer_that_is_a_solution_is_an_error():
    with pytest.raises(ValueError, match=r"mark its value with #### or \\boxed"):
        graders.build("math_equal")("24", "She sold 48 clips in May and half of it in June", {})


def test_no_answer_is_an_error():
    with pytest.raises(ValueError, match="no answer to compare with"):
        graders.build({"type": "math_equal", "reference": "{{item.a}}"})("1", "", {"a": " "})
