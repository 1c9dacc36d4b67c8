"""A grader's source, run inside the sandbox: a program, and then tests on what it defines.

`sample` is {"code"}; `item` is {"before", "tests", "seconds"}: code that stands in front,
statements that raise where the program is wrong, and the time of each on a clock.
"""

import signal


def grade(sample, item):
    """The share of the tests that pass."""
    signal.signal(signal.SIGALRM, _late)
    space = {"__name__": "program"}
    program = item["before"] + "\n" + sample["code"]
    _limited(item["seconds"], lambda: exec(compile(program, "program.py", "exec"), space))
    passed = 0
    for test in item["tests"]:
        try:
            _limited(item["seconds"], lambda test=test: exec(test, dict(space)))
            passed += 1
        # A program may call sys.exit to look as if it had passed.
        except BaseException:
            continue
    return passed / len(item["tests"])


def _limited(seconds, action):
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        action()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _late(number, frame):
    raise TimeoutError("it took too long")
