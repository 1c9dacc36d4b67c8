"""The end of a run: choose the best, export it, prove it, and write the report."""

from dataclasses import asdict
from typing import Any

from tunesmith.api.averages import Average, best_average, measure_averages
from tunesmith.api.export import describe_artefact
from tunesmith.api.report import Chosen, assemble, samples
from tunesmith.api.session import Session
from tunesmith.checkpoint.layout import step_folder
from tunesmith.checkpoint.verify import quarantine, verify
from tunesmith.engine.saving import restore
from tunesmith.errors import CheckpointError, RunError
from tunesmith.export.artefact import (
    Artefact,
    fingerprints,
    require_moved,
    require_update,
    write,
)
from tunesmith.export.certificate import Certificate, certify
from tunesmith.export.gate import require_sound
from tunesmith.runs.events import Phase, Warned
from tunesmith.runs.folder import write_json
from tunesmith.runs.report.write import write as write_pages

TEXTS = 8
"""Training rows that the exported tokenizer must turn into the same ids."""
MAX_NAMED = 5
"""Unmoved tensors that a warning names; the report has them all."""
PROMPTS = 4
"""Held-out prompts on which the artefact is compared with the model in memory."""


def finish(session: Session) -> dict[str, Any]:
    """Export the best checkpoint, certify it, and leave the report in the run folder.

    Returns:
        The report.

    Raises:
        RunError: No checkpoint is within the forgetting budget, nothing moved, or the artefact is
            not what was trained. The report is written all the same, with status failed.
    """
    averages = measure_averages(session)
    chosen = _choose(session, averages)
    try:
        if chosen.weights is None:
            raise _over_budget(session)
        artefact, certificate = _export(session, chosen)
    except RunError as error:
        _leave(session, chosen, None, None, ("failed", str(error)))
        raise
    return _leave(session, chosen, artefact, certificate, ("succeeded", ""))


def _choose(session: Session, averages: list[Average]) -> Chosen:
    """What to export, its parameters in place: the best checkpoint, or an average that beats it."""
    best = _best_checkpoint(session)
    history = session.evaluator.history
    average = best_average(session, averages, None if best is None else history.get(best))
    if average is not None:
        average.put()
    else:
        session.parts.measured.settle()
    step = session.parts.loader.num_steps if best is None else best
    return Chosen(best if average is None else average.name, step, tuple(averages))


def _best_checkpoint(session: Session) -> int | None:
    """The step to export, its parameters in place; without measures, the last one.

    A best checkpoint that is damaged is set aside, and the next best is taken.
    """
    last, root = session.parts.loader.num_steps, session.folder.checkpoints
    if not session.evaluator.measures:
        return last
    damaged: set[int] = set()
    while (best := session.best_without(damaged)) not in (None, last):
        try:
            folder, parts = verify(step_folder(root, best)).folder, session.parts
            # What is measured may come from the optimizer.
            optimizer = parts.optimizer if parts.measured.put is not None else None
            restore(folder, session.learner.trained, optimizer)
            break
        except CheckpointError as error:
            damaged.add(best)
            where = quarantine(step_folder(root, best))
            text = f"checkpoint {where} was set aside, the best of those left is exported: {error}"
            session.watch.notice(Warned(text))
    return best


def _export(session: Session, chosen: Chosen) -> tuple[Artefact, Certificate]:
    attached = session.learner.attached
    unmoved = require_moved(session.start, fingerprints(attached.trained))
    _tell_unmoved(session, unmoved)
    session.watch.notice(Phase(f"exporting {chosen}"))
    folder = session.folder.path / session.learner.adapter.FOLDER
    artefact = write(session.learner.adapter, attached, session.base, folder, unmoved)
    saved = session.learner.adapter.saved(attached)
    require_update(saved)
    require_sound(folder, saved, session.base.tokenizer, _texts(session))
    session.watch.notice(Phase("reloading the export in a fresh process"))
    certificate = certify(attached.model, folder, _prompts(session))
    if not certificate.ok:
        raise RunError(
            str(folder),
            got=f"an export that answers differently: {asdict(certificate)}",
            expected="equal greedy tokens and logits within the tolerance",
        )
    for what, found in certificate.also.items():
        session.watch.notice(
            Warned(
                f"{what} the adapter answers otherwise than as trained and measured: logits up to "
                f"{found.max_logit_difference:.2g} apart, {found.equal_greedy_tokens:.0%} of the "
                "greedy tokens equal"
            )
        )
    return artefact, certificate


def _tell_unmoved(session: Session, unmoved: list[str]) -> None:
    """Legitimate where a parameter had no gradient; still, a person should know."""
    if unmoved:
        named = ", ".join(unmoved[:MAX_NAMED])
        more = f" and {len(unmoved) - MAX_NAMED} more" if len(unmoved) > MAX_NAMED else ""
        session.watch.notice(
            Warned(
                f"{len(unmoved)} of {len(session.start)} trained tensors are, bit for bit, where "
                f"they began: {named}{more}"
            )
        )


def _texts(session: Session) -> list[str]:
    """The first training rows as texts."""
    rows, decode = session.rows.train, session.base.tokenizer.decode
    return [decode(rows.as_read(i).input_ids.tolist()) for i in range(min(TEXTS, len(rows)))]


def _prompts(session: Session) -> list[list[int]]:
    """Held-out prompts: of the first task, else the openings of the first training rows."""
    if session.evaluator.tasks:
        return session.evaluator.tasks[0].prompts[:PROMPTS]
    rows = session.rows.heldout or session.rows.train
    opening = []
    for index in range(min(PROMPTS, len(rows))):
        example = rows.as_read(index).sequences()[0]
        # A row of which no token is trained is read as a whole.
        length = int(example.trained.argmax()) if example.trained.any() else len(example)
        opening.append(example.input_ids[: max(length, 1)].tolist())
    return opening


def _over_budget(session: Session) -> RunError:
    budget = session.recipe.evaluate.forgetting_budget
    found = sorted(
        e.forgetting.kl for s, e in session.evaluator.history.items() if s and e.forgetting
    )
    return RunError(
        "evaluate.forgetting_budget",
        got=f"no checkpoint within {budget} nats; the nearest has {found[0]:.4f}"
        if found
        else "no measure of forgetting",
        expected=f"a KL from the base of at most {budget}",
        hint="lower train.learning_rate or adapter.rank, train less, or raise the budget",
    )


def _leave(
    session: Session,
    chosen: Chosen,
    artefact: Artefact | None,
    certificate: Certificate | None,
    outcome: tuple[str, str],
) -> dict[str, Any]:
    report = assemble(session, chosen, artefact, certificate, outcome)
    write_json(session.folder.samples, samples(session, chosen))
    write_json(session.folder.report_json, report)
    if artefact is not None:
        describe_artefact(session.folder, artefact.path)
    write_pages(session.folder)
    return report
