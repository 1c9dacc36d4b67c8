"""The part of a report about the proof of resume, where `prove` has made one."""

from tunesmith.runs.report.chapter import Chapter
from tunesmith.runs.report.material import Record
from tunesmith.runs.report.wording import count, duration, plural


def proof(report: Record) -> Chapter | None:
    """What was found by training the first steps again, killed and not."""
    made = report.get("proof")
    if not made:
        return None
    rows = tuple((claim["says"], claim["ok"], claim["figure"]) for claim in made["claims"])
    lead = (
        f"The first {plural(made['steps'], 'step')} of {count(made['num_steps'])}, trained three "
        "times, each time in processes of their own, and compared bit for bit: without a stop; "
        f"{' and '.join(_told(kill) for kill in made['killed'])}; and once more from the start, "
        f"without measuring between steps. It took {duration(made['seconds'])}."
    )
    return Chapter("Proof of resume", lead, ("claim", "", "figure"), rows)


def _told(kill: Record) -> str:
    where = f"{kill['when']} of step {kill['step']}"
    return f"killed {where} and resumed from step {kill['resumed_from']}"
