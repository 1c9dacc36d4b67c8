"""Hands events to observers, and lets none of them break the run."""

from collections.abc import Iterable

from tunesmith.runs.events import Event, EventWriter, Observer, Warned


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
        for observer in list(self._others):
            try:
                observer.notice(event)
            # The border that keeps a broken tracker from ending a run.
            except Exception as error:
                self._others.remove(observer)
                name = type(observer).__name__
                self.notice(Warned(f"observer {name} failed and was dropped: {error!r}"))
