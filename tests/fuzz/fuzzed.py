"""How the properties of this folder are run: how often, and what they must never do."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hypothesis import HealthCheck, settings

from tunesmith.errors import TunesmithError

NUM_PROPERTIES = 10
"""Of this folder. Each gets twice the cases of a profile's other properties: 2,000 in all with the
profile `ci`, 100,000 with `nightly` (HYPOTHESIS_PROFILE=nightly)."""
MAX_SECONDS = 2.0

T = TypeVar("T")
MARK = "fuzzed"


def fuzzed(test: Callable) -> Callable:
    """Run a property often, on new cases each time, without a limit for the whole case.

    What is timed is the code under test alone, see `answers`.
    """
    done = settings(
        max_examples=2 * settings().max_examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )(test)
    setattr(done, MARK, True)
    return done


def answers(ask: Callable[[], T], *names: str) -> T | TunesmithError:
    """What `ask` gives, or the TunesmithError that it raises; any other exception is a finding.

    Args:
        ask: The code under test.
        names: The error has to say one of these where it happened: a file, a key.
    """
    with _in_time():
        try:
            return ask()
        except TunesmithError as raised:
            error = raised
    assert error.got, "an error that does not say what it got"
    assert not names or any(name in error.where for name in names), (error.where, names)
    return error


@contextmanager
def _in_time() -> Iterator[None]:
    """Processor time, so that a busy machine is no finding; an endless loop meets the timeout."""
    begin = time.process_time()
    yield
    seconds = time.process_time() - begin
    assert seconds < MAX_SECONDS, f"{seconds:.1f} s"
