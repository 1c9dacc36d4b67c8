import pytest

from tunesmith.errors import RecipeError
from tunesmith.evaluate import graders
from tunesmith.evaluate.graders.base import Answered

TESTS = ["assert double(2) == 4", "assert double(3) == 6", "assert double('a') == 'aa'"]
RIGHT = "def double(x):\n    return 2 * x"


def scores(programs, tests=TESTS, **keys):
    spec = {"type": "code_tests", "timeout_seconds": 0.5, "memory_mib": 128, **keys}
    asked = [Answered(program, "", {"tests": tests}) for program in programs]
    return graders.open(spec).score_all(asked)


@pytest.mark.parametrize(
    ("program", "share"),
    [
        (RIGHT, 1), (f"Here it is:\n```python\n{RIGHT}\n```\nIt doubles.", 1), (f"```\n{RIGHT}", 1),
        ("def double(x):\n    return x ** 2", 1 / 3),
        ("def double(x):\n    return x + x + 0", 2 / 3),
        ("", 0), ("def double(x", 0), ("1 / 0", 0), ("import sys; sys.exit(0)", 0),
        ("import os; os._exit(0)", 0), ("while True: pass", 0), ("x = bytearray(10 ** 9)", 0),
        ("def double(x):\n    while x == 3: pass\n    return 2 * x", 2 / 3),
        ("def double(x):\n    raise SystemExit(0)", 0), ("print('passed')", 0),
        ("import os; os.close(1); os.close(2)", 0), ("import ctypes; ctypes.string_at(0)", 0),
        ("def double(x):\n    open('/etc/passwd').read()\n    return 2 * x", 0),
        ("\x00", 0), ("#\udcff", 0),
    ],
)  # fmt: skip
def test_the_tests_decide(program, share):
    (each,) = scores([program], each=True)
    (whole,) = scores([program])
    assert (each.score, each.failure) == (pytest.approx(share), "")
    assert (whole.score, whole.failure) == (float(share == 1), "")


def test_a_program_does_not_see_another():
    other = "import builtins\nbuiltins.double = lambda x: 2 * x"
    assert [each.score for each in scores([other, "", RIGHT], each=True)] == [1.0, 0.0, 1.0]


def test_a_test_does_not_see_what_another_set():
    assert scores([RIGHT], ["x = 1", "assert 'x' not in globals()"])[0].score == 1.0


def test_the_rows_of_humaneval():
    row = {
        "prompt": "def double(x):\n    '''Twice x.'''\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
        "entry_point": "double",
    }
    grading = graders.open(
        {
            "type": "code_tests",
            "before": "{{item.prompt}}",
            "tests": "{{item.test}}\ncheck({{item.entry_point}})",
        }
    )
    programs = ["    return 2 * x", "    return x", RIGHT]
    found = grading.grade_all(programs, [""] * 3, [row] * 3)
    assert found.scores.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("tests", [[], [1], {"a": 1}, 3, None])
def test_a_row_without_tests_is_an_error(tests):
    grader = graders.build("code_tests")
    with pytest.raises(ValueError, match="tests that are no text and no list of texts"):
        grader.check("", {"tests": tests})
    assert "tests that are no text" in scores([RIGHT], tests)[0].failure


def test_a_row_that_lacks_the_key_is_an_error():
    with pytest.raises(RecipeError, match=r"got \{\{item.tests\}\}, a path that leads nowhere"):
        graders.build("code_tests").check("", {"test_list": []})
