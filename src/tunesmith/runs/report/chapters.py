"""The parts of a report as plain tables: one function per part, the same for every form.

A part about something that was not measured is None and so is left out.
"""

from collections.abc import Iterator, Sequence

from tunesmith.runs.report.chapter import Cell, Chapter, facts, written
from tunesmith.runs.report.material import Material, Record
from tunesmith.runs.report.measures import evaluations, results
from tunesmith.runs.report.proof import proof
from tunesmith.runs.report.wording import (
    count,
    duration,
    figure,
    gib,
    nats,
    num_bytes,
    percent,
    short_count,
    small_percent,
)


def chapters(material: Material) -> list[Chapter]:
    """The parts of the report of a run, in reading order, without the empty ones."""
    report = material.report
    made = (
        results(report),
        contract(report),
        data(report),
        sources(report),
        files(report),
        skipped(report),
        training(report),
        rejected(material),
        went_back(material),
        adapter(report),
        artefact(report),
        certificate(report),
        proof(report),
        timings(report),
        evaluations(material),
        versions(material.lock),
    )
    return [chapter for chapter in made if chapter]


def contract(report: Record) -> Chapter | None:
    """The checks on what is trained."""
    rows = tuple(
        (
            check.get("check", check.get("name")),
            check["ok"],
            written(check["figure"]),
            check["says"],
        )
        for check in report.get("contract") or ()
    )
    lead = "What the model was taught, token by token, checked before the first step."
    return Chapter("Token contract", lead, ("check", "", "figure", "says"), rows) if rows else None


def data(report: Record) -> Chapter | None:
    """How much there was to learn from."""
    counts = report.get("data") or {}
    share = ""
    if counts.get("tokens") and counts.get("tokens_trained") is not None:
        share = f" ({small_percent(counts['tokens_trained'] / counts['tokens'])})"
    pairs = {
        "rows to train on": count(counts.get("rows_train")),
        "held-out rows": count(counts.get("rows_eval")),
        "tokens of one epoch": count(counts.get("tokens")),
        "of them trained": count(counts.get("tokens_trained")) + share,
        "rows dropped (too long)": count(counts.get("dropped")),
        "rows cut (too long)": count(counts.get("truncated")),
        "documents cut in two, nothing lost (times)": count(counts.get("cuts") or None),
        "rows skipped (bad)": count(counts.get("skipped")),
    }
    return facts("Data", "Nothing is left out silently: each row is used or counted here.", pairs)


def sources(report: Record) -> Chapter | None:
    """What each of several files was; one file is all rows, and left out."""
    listed = report.get("sources") or ()
    if len(listed) < 2:
        return None
    rows = tuple(
        (
            each["name"],
            count(each["rows"]),
            count(each["tokens"]),
            figure(each["weight"], 3) if each["share"] is None else percent(each["share"]),
            nats(each["loss_before"]),
            nats(each["loss_after"]),
        )
        for each in listed
    )
    lead = (
        "How often a row of each file comes in an epoch, or what share of every step is replayed; "
        "and the held-out loss of the file of that name. Forgetting is of the one model, so it has "
        "no figure for each source."
    )
    columns = ("source", "rows", "tokens", "how often", "loss before", "after")
    return Chapter("Sources", lead, columns, rows)


def files(report: Record) -> Chapter | None:
    """The data files, their shape and their hashes."""
    counts = report.get("data") or {}
    shapes, hashes = counts.get("shapes") or {}, counts.get("sha256") or {}
    rows = tuple((name, shapes.get(name, ""), hashes.get(name, "")) for name in shapes | hashes)
    lead = "As they were when the run read them."
    return Chapter("Data files", lead, ("file", "shape", "SHA-256"), rows) if rows else None


def skipped(report: Record) -> Chapter | None:
    """The rows that were skipped, with what was wrong with each."""
    problems = (report.get("data") or {}).get("bad_rows") or ()
    rows = tuple((f"{each['file']}:{each['row']}", each["problem"]) for each in problems)
    lead = "Bad rows are left out only when the recipe says data.on_bad_row: skip."
    return Chapter("Rows skipped", lead, ("row", "problem"), rows) if rows else None


def rejected(material: Material) -> Chapter | None:
    """The steps that were rejected, with the rows they were made of."""
    rows = tuple(
        (count(step["step"]), step.get("reason") or "not finite", places(step["rows"]))
        for step in material.timeline.rejected
    )
    lead = "The guard refused these steps, and they changed nothing. Look at their rows first."
    return Chapter("Steps rejected", lead, ("step", "why", "rows"), rows) if rows else None


def went_back(material: Material) -> Chapter | None:
    """The times that the run went back to a checkpoint."""
    rows = tuple(
        (count(turn["step"]), count(turn["to"]), turn["reason"], places(turn["rows"]))
        for turn in material.timeline.went_back
    )
    lead = (
        "Too many steps were rejected, or the model no longer computed: the run went back to a "
        "checkpoint that later steps had proved healthy, and on without these rows."
    )
    header = ("after step", "back to", "why", "rows left out")
    return Chapter("Turns", lead, header, rows) if rows else None


def places(rows: Sequence[Sequence[str | int]]) -> str:
    """Rows by file and number."""
    return ", ".join(f"{source}:{number}" for source, number in rows)


def training(report: Record) -> Chapter | None:
    """What the loop did, and how well it had been foreseen."""
    train, fit = report.get("train") or {}, report.get("fit") or {}
    memory, seconds = gib(train.get("peak_memory_gib")), duration(train.get("seconds"))
    if fit.get("peak_memory_gib"):
        memory += f" (measured before step 1: {gib(fit['peak_memory_gib'])})"
    if fit.get("predicted_seconds"):
        seconds += f" (predicted: {duration(fit['predicted_seconds'])})"
    rate = train.get("learning_rate")
    pairs = {
        "steps": count(train.get("steps")),
        "epochs": figure(train.get("epochs"), 3),
        "last loss": nats(train.get("final_loss")),
        "learning rate": "" if rate is None else f"{rate:g}",
        "set by": train.get("learning_rate_source") or "",
        "time": seconds,
        "tokens per second": count(train.get("tokens_per_second")),
        "trained tokens per second": count(train.get("tokens_trained_per_second")),
        "peak memory": memory,
        "largest batch": f"{count(fit.get('worst_batch_tokens'))} tokens" if fit else "",
        "steps rejected": count(train.get("rejected_steps")),
        "times gone back": count((report.get("guard") or {}).get("returns")),
        "largest update norm": figure((report.get("guard") or {}).get("largest_update_norm"), 3),
        "norm grown from zero": figure((report.get("guard") or {}).get("grown_norm"), 3),
        "precision": train.get("precision") or "",
        "device": train.get("device") or "",
    }
    return facts(
        "Training",
        "How it went, beside what was measured and predicted before the first step.",
        pairs,
    )


def adapter(report: Record) -> Chapter | None:
    """What of the model was trained."""
    made, base = report.get("adapter") or {}, report.get("base") or {}
    pairs = {
        "base": base.get("id") or "",
        "base revision": base.get("revision") or "",
        "base SHA-256": base.get("sha256") or "",
        "base parameters": short_count(base.get("parameters")),
        "base quantised": base.get("quantize") or "",
        "adapter": made.get("name") or "",
        "trained parameters": count(made.get("trainable_parameters")),
        "share of the base": small_percent(made.get("share")),
        "modules trained": "\n".join(made.get("targeted") or ()),
        "modules left as they were": "\n".join(made.get("untargeted") or ()),
    }
    return facts("Base and adapter", "Which weights could move, and which could not.", pairs)


def artefact(report: Record) -> Chapter | None:
    """What is left to use."""
    saved, made = report.get("checkpoint") or {}, report.get("artefact") or {}
    pairs = {
        "best step": count(saved.get("best_step")),
        "last step": count(saved.get("last_step")),
        "exported": saved.get("exported") or "",
        "averages of weights": "\n".join(map(_average, saved.get("averages") or ())),
        "artefact": made.get("path") or "",
        "size": num_bytes(made.get("bytes")),
        "SHA-256": made.get("sha256") or "",
    }
    return facts("Checkpoint and artefact", "The artefact is the best step, not the last.", pairs)


def _average(average: Record) -> str:
    """What was found of one average, and of which steps it is the mean."""
    of = f" of steps {', '.join(map(str, average['steps']))}" if average["steps"] else ""
    found = {
        name: f"{name} {value:.4f}"
        for name in ("score", "loss", "kl")
        if (value := average.get(name)) is not None
    }
    return f"{average['name']}{of}: {', '.join(found.values())}"


def certificate(report: Record) -> Chapter | None:
    """Whether what ships is what was trained."""
    proof = report.get("certificate")
    if not proof:
        return None
    equal, prompts = proof["equal_greedy_tokens"], proof["prompts"]
    difference, tolerance = proof["max_logit_difference"], proof["tolerance"]
    close = difference is not None and difference <= tolerance
    rows: tuple[tuple[Cell, ...], ...] = (
        ("same as trained", proof["ok"], f"on {count(prompts)} prompts"),
        ("largest difference of a logit", close, f"{written(difference)} of {written(tolerance)}"),
        ("equal greedy tokens", equal == 1, percent(equal)),
        *(_told(what, found) for what, found in (proof.get("also") or {}).items()),
    )
    lead = "The artefact was loaded again in a fresh process and compared with the trained model."
    return Chapter("Certificate", lead, ("claim", "", "figure"), rows)


def _told(what: str, found: Record) -> tuple[Cell, ...]:
    """A comparison that decides nothing."""
    difference, equal = found["max_logit_difference"], found["equal_greedy_tokens"]
    return what, "", f"logits {written(difference)} apart, {percent(equal)} of greedy tokens equal"


def timings(report: Record) -> Chapter | None:
    """Where the time went."""
    spans = report.get("timings") or {}
    pairs = {phase: duration(seconds) for phase, seconds in spans.items()}
    return facts("Timings", "Time of each phase, as on a clock on the wall.", pairs)


def versions(lock: Record) -> Chapter | None:
    """The versions and hashes that the run was locked to."""
    # These are told in chapters of their own.
    elsewhere = ("base", "data", "learning_rate")
    rest = {key: value for key, value in lock.items() if key not in elsewhere}
    return facts("Versions", "What the run was made with.", dict(_flattened(rest)))


def _flattened(record: Record, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flattened(value, "" if key == "versions" else f"{prefix}{key} ")
        elif isinstance(value, list):
            yield f"{prefix}{key}", "\n".join(str(each) for each in value)
        elif value is not None:
            yield f"{prefix}{key}", str(value)
