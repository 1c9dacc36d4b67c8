"""A verb in a process that is killed at one exact moment of a save: what `prove` recovers from.

Usage: python -m tunesmith.cli.killed inside|after FOLDER VERB ...

`inside`: all is written, and the checkpoint is about to get its name FOLDER. `after`: it has it,
and the run is about to tell so. The process hears of both from the interpreter itself (PEP 578),
so that nothing in the engine knows of it; SIGKILL then leaves it no time for anything.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from tunesmith.cli.main import main

EVENTS = "events.jsonl"


def watch(moment: str, folder: str, kill: Callable[[], None]) -> Callable[[str, tuple], None]:
    """An audit hook that calls `kill` at the moment.

    Args:
        moment: `inside` or `after`.
        folder: Absolute path of the checkpoint.
        kill: Ends the process.
    """
    named = False

    def hear(event: str, about: tuple[Any, ...]) -> None:
        nonlocal named
        if event == "os.rename" and os.fspath(about[1]) == folder:
            named = True
            if moment == "inside":
                kill()
        elif named and event == "open" and str(about[0]).endswith(EVENTS):
            kill()

    return hear


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.addaudithook(watch(sys.argv[1], sys.argv[2], _kill))
    sys.argv = sys.argv[:1] + sys.argv[3:]
    main()
