"""Hands events to observers, and lets none of them break the run."""

import sys
from collections.abc import Iterable
from contextlib import suppress

from tunesmith.errors import MachineError
from tunesmith.runs.events import Event, EventWriter, Observer, Warned
from tunesmith.runs.patience import waiting


class Observers:
    """The event log and whoever else watches.

    The log is not an observer like the others: a run that cannot write its folder has failed.

    Args:
        log: Writes `events.jsonl`.
        others: Live lines, trackers and the like; one that raises is dropped and named once.
    """

    def __init__(self, log: EventWriter, others: Iterable[Observer] = ()) -> None:
        self._log = log
        self._others = list(others)

    def notice(self, event: Event) -> None:
        """Log `event`, then show it to every observer that still works."""
        self._log.notice(event)
        self._show(event)

    def mention(self, event: Event) -> None:
        """As `notice`, when it may be that the disk takes nothing: then the log goes without it.

        Where nobody else watches, standard error gets the text of a warning.
        """
        with waiting(None), suppress(MachineError):
            self._log.notice(event)
        if isinstance(event, Warned) and not self._others:
            sys.stderr.write(f"warning: {event.message}\n")
        self._show(event)

    def _show(self, event: Event) -> None:
        for observer in list(self._others):
            try:
                observer.notice(event)
            # The border that keeps a broken tracker from ending a run.
            except Exception as error:
                self._others.remove(observer)
                name = type(observer).__name__
                self.notice(Warned(f"observer {name} failed and was dropped: {error!r}"))
