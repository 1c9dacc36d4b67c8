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
            # Another one, dropped meanwhile, may have told this one so and broken it.
            if not any(observer is other for other in self._others):
                continue
            try:
                observer.notice(event)
            # The border that keeps a broken tracker from ending a run.
            except Exception as error:
                self._others = [other for other in self._others if other is not observer]
                name, why = type(observer).__name__, _told(error)
                self.notice(Warned(f"observer {name} failed and was dropped: {why}"))


def _told(error: Exception) -> str:
    """What an error says of itself; it comes from code that has just shown to be broken."""
    try:
        return repr(error)
    except Exception:
        return type(error).__name__
