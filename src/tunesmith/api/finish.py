"""The end of a run: choose the best, export it, prove it, and write the report."""

from dataclasses import asdict
from typing import Any

from tunesmith.api.export import describe_artefact
from tunesmith.api.report import assemble, samples
from tunesmith.api.session import Session
from tunesmith.checkpoint.verify import verify
from tunesmith.engine.saving import restore
from tunesmith.errors import RunError
from tunesmith.export.artefact import (
    Artefact,
    fingerprints,
    require_moved,
    require_sound,
    write,
)
from tunesmith.export.certificate import Certificate, certify
from tunesmith.runs.events import Phase, Warned
from tunesmith.runs.folder import write_json
from tunesmith.runs.report.write import write as write_pages

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
    best, last = _choose(session), session.parts.loader.num_steps
    step = last if best is None else best
    try:
        if best is None:
            raise _over_budget(session)
        artefact, certificate = _export(session, best, last)
    except RunError as error:
        _leave(session, step, None, None, ("failed", str(error)))
        raise
    return _leave(session, step, artefact, certificate, ("succeeded", ""))


def _choose(session: Session) -> int | None:
    """The step to export; without measures, the last one."""
    return session.best if session.evaluator.measures else session.parts.loader.num_steps


def _export(session: Session, best: int, last: int) -> tuple[Artefact, Certificate]:
    attached = session.learner.attached
    if best != last:
        manifest = verify(session.folder.checkpoints / f"step-{best}")
        restore(manifest.folder, attached.trained, None)
    for name in require_moved(session.start, fingerprints(attached.trained))[:5]:
        session.watch.notice(Warned(f"{name} is, bit for bit, where it began"))
    session.watch.notice(Phase(f"exporting step {best}"))
    folder = session.folder.path / session.learner.adapter.FOLDER
    artefact = write(session.learner.adapter, attached, session.base, folder)
    require_sound(folder, attached.trained)
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


def _prompts(session: Session) -> list[list[int]]:
    """Held-out prompts: of the first task, else the openings of the first training rows."""
    if session.evaluator.tasks:
        return session.evaluator.tasks[0].prompts[:PROMPTS]
    rows = session.rows.heldout or session.rows.train
    opening = []
    for index in range(min(PROMPTS, len(rows))):
        example = rows[index]
        length = max(int(example.trained.argmax()), 1)
        opening.append(example.input_ids[:length].tolist())
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
    step: int,
    artefact: Artefact | None,
    certificate: Certificate | None,
    outcome: tuple[str, str],
) -> dict[str, Any]:
    report = assemble(session, step, artefact, certificate, outcome)
    write_json(session.folder.samples, samples(session, step))
    write_json(session.folder.report_json, report)
    if artefact is not None:
        describe_artefact(session.folder, artefact.path)
    write_pages(session.folder)
    return report
