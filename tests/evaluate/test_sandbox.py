"""The sandbox: what a source can do, what it cannot, and what becomes of the rows beside it."""

import math
import os
import subprocess
import sys
import time
from time import monotonic

import pytest

from tunesmith.errors import RecipeError
from tunesmith.evaluate import graders
from tunesmith.evaluate.graders.base import Answered
from tunesmith.evaluate.means import NO_MEANS
from tunesmith.evaluate.sandbox.box import Box, Graded

ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the wall is Linux's")

CALLS = """
import ctypes, os, resource, signal, socket, subprocess, sys, threading

def grade(sample, item):
    return CALLS[item["call"]]()

def forked():
    return os.fork() and 1

def listening():
    server = socket.socket(socket.AF_UNIX)
    return 1

def written():
    with open("a", "w") as file:
        file.write("x")
    return 1

def spinning():
    while True:
        pass

def threaded():
    found = []
    thread = threading.Thread(target=lambda: found.append(1))
    thread.start()
    thread.join()
    return found[0]

def deaf():
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_IGN)
    spinning()

def raised():
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return 1

CALLS = {
    "one": lambda: 1,
    "half": lambda: 0.5,
    "environment": lambda: int("SECRET" in os.environ or "HOME" in os.environ),
    "threaded": threaded,
    "printed": lambda: print("x" * 10**6) or 1,
    "text": lambda: "good",
    "nan": lambda: float("nan"),
    "raises": lambda: 1 / 0,
    "exits": lambda: sys.exit(0),
    "memory": lambda: len(bytearray(2**30)),
    "socket": lambda: socket.socket() and 1,
    "unix socket": listening,
    "forked": forked,
    "subprocess": lambda: subprocess.run([sys.executable, "-c", ""]).returncode + 1,
    "replaced": lambda: os.execv(sys.executable, [sys.executable]),
    "kill parent": lambda: os.kill(os.getppid(), 9) or 1,
    "raised": raised,
    "passwords": lambda: len(open("/etc/passwd").read()),
    "root": lambda: len(os.listdir("/")),
    "written": written,
    "gone": lambda: os._exit(0),
    "crash": lambda: ctypes.string_at(0),
    "spinning": spinning,
    "deaf": deaf,
    "silent": lambda: os.close(item_channel()) or 1,
}

def item_channel():
    for number in range(3, 64):
        try:
            os.fstat(number)
            os.close(number)
        except OSError:
            pass
    return 63
"""


def ask(*calls, source=CALLS, seconds=1.0, **options):
    box = Box(source, seconds, memory_mib=256, **options)
    return box.grade([({}, {"call": call}) for call in calls])


def test_scores_come_in_order(monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    found = ask("one", "half", "environment", "threaded", "printed")
    assert found == [Graded(1.0), Graded(0.5), Graded(0.0), Graded(1.0), Graded(1.0)]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("text", "ValueError: could not convert string to float: 'good'"),
        ("raises", "ZeroDivisionError: division by zero"),
        ("exits", "SystemExit: 0"),
        ("unknown", "KeyError: 'unknown'"),
        ("gone", "its process ended with 0"),
        ("crash", "its process was ended by SIGSEGV"),
        ("silent", "its process ended with 1"),
        pytest.param("memory", "MemoryError", marks=ONLY_LINUX),
    ],
)
def test_a_row_that_fails_fails_alone(call, why):
    assert ask("one", call, "half") == [Graded(1.0), Graded(0.0, why), Graded(0.5)]


def test_a_row_that_overstays_is_ended():
    begun = monotonic()
    late = Graded(0.0, "it took more than 0.3 s")
    assert ask("spinning", "one", "deaf", seconds=0.3) == [late, Graded(1.0), late]
    assert monotonic() - begun < 20


@ONLY_LINUX
@pytest.mark.parametrize(
    "call",
    [
        "socket",
        "unix socket",
        "forked",
        "subprocess",
        "replaced",
        "kill parent",
        "raised",
        "passwords",
        "root",
        "written",
    ],
)
def test_nothing_outside_is_reached(call):
    standing = Box("", 1, 64).walls()
    if not {"files", "network", "processes"} <= set(standing):
        pytest.skip(f"this kernel has only the walls {', '.join(standing)}")
    (found,) = ask(call)
    assert found.score == 0.0
    assert "not permitted" in found.failure or "denied" in found.failure or "limit" in found.failure


def test_nan_is_handed_on_and_refused_by_the_grading():
    assert math.isnan(ask("nan")[0].score)
    spec = {"type": "python", "source": "def grade(sample, item): return float('nan')"}
    scored = graders.open(spec).score_all([Answered("", "", {})])[0]
    assert (scored.score, scored.failure) == (0.0, "a score of nan; expected a finite number")


def test_an_open_file_is_not_inherited(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    source = "import os\ndef grade(sample, item): return len(os.read(item['call'], 9))"
    with secret.open() as file:
        os.set_inheritable(file.fileno(), True)
        (found,) = ask(file.fileno(), source=source)
    assert found.score == 0.0
    assert "Bad file descriptor" in found.failure


@ONLY_LINUX
def test_a_file_that_is_named_may_be_read(tmp_path):
    path = tmp_path / "data"
    path.write_text("12345")
    source = "def grade(sample, item): return len(open(item['call']).read())"
    assert ask(str(path), source=source, readable=(str(path),))[0].score == 5


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("x = 1", "NameError: no function grade(sample, item)"),
        ("def grade(", "SyntaxError: '(' was never closed"),
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("import os; os._exit(3)", "its process ended with 3"),
    ],
)  # fmt: skip
def test_a_source_that_is_no_grader_is_an_error(source, why):
    with pytest.raises(RecipeError) as error:
        ask("one", source=source)
    assert f"grader: got a source that ends with {why}" in str(error.value)
    assert "expected def grade(sample, item)" in str(error.value)


def test_a_python_grader_that_cannot_start_is_found_before_a_run():
    source = "import not_there\ndef grade(sample, item): return 1"
    grader = graders.build({"type": "python", "source": source, "image_tag": "2025-05-08"})
    with pytest.raises(RecipeError) as error:
        grader.prepare(NO_MEANS)
    assert "python grader, written for image 2025-05-08: got a source" in str(error.value)
    graders.build({"type": "python", "source": "def grade(a, b): return 1"}).prepare(NO_MEANS)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1", "expected a function grade(sample, item)"),
        ("def grade(", "expected Python; '(' was never closed"),
        ("#" * 256_001, "expected at most 256,000 bytes"),
    ],
)
def test_a_python_grader_that_is_none_is_refused_with_the_recipe(source, text):
    with pytest.raises(RecipeError) as error:
        graders.build({"type": "python", "source": source})
    assert text in str(error.value)


@ONLY_LINUX
def test_no_process_is_left_when_ours_is_killed(tmp_path):
    """The child sleeps without end; its parent is killed, so nobody holds the clock any more."""
    path = tmp_path / "pid"
    code = (
        "import time\n"
        "from tunesmith.evaluate.sandbox import box\n"
        "start = box._start\n"
        "def told(folder):\n"
        "    child = start(folder)\n"
        f"    open({str(path)!r}, 'w').write(str(child.pid))\n"
        "    return child\n"
        "box._start = told\n"
        "source = 'import time\\ndef grade(s, i): time.sleep(60)'\n"
        "box.Box(source, 60, 64).grade([({}, {})])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    while not (path.is_file() and path.read_text()):
        time.sleep(0.05)
    time.sleep(1.0)
    parent.kill()
    parent.wait()
    child = int(path.read_text())
    for _ in range(200):
        if not is_running(child):
            return
        time.sleep(0.05)
    os.kill(child, 9)
    pytest.fail("the process of the sandbox outlived ours")


def is_running(process):
    try:
        with open(f"/proc/{process}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_rows_share_a_process_unless_each_has_its_own():
    source = "seen = []\ndef grade(sample, item):\n    seen.append(1)\n    return len(seen)"
    assert [g.score for g in ask("a", "b", "c", source=source)] == [1, 2, 3]
    assert [g.score for g in ask("a", "b", "c", source=source, fresh=True)] == [1, 1, 1]


def test_large_rows_and_installed_packages_get_in():
    source = (
        "import numpy\ndef grade(sample, item): return int(numpy.ones(3).sum()) + len(item['call'])"
    )
    assert ask("\N{SNOWMAN}" * 10**6, source=source, seconds=60)[0].score == 10**6 + 3


def test_no_rows_start_nothing():
    assert Box("not Python", 1, 64).grade([]) == []
