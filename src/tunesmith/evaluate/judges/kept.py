"""Answers of judges, kept by what was asked, so that a rerun asks nothing twice."""

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from tunesmith.config.home import home
from tunesmith.evaluate.means import Drawing, Judge, Messages, Unanswered

TOGETHER = 64
"""Questions handed over at a time: what was answered of them is lost when the judge fails."""


def answers(
    judge: Judge, questions: Sequence[Messages], drawing: Drawing
) -> list[str | Unanswered]:
    """The judge's answer to each conversation, asked only where none is kept.

    One file an answer under `TUNESMITH_HOME/judged`, named by the SHA-256 of judge, conversation
    and how it is to write. A conversation that stands here twice is asked once. Failures are not
    kept.

    Raises:
        TunesmithError: As `Judge.answer`; what was answered before is kept.
    """
    names = [_name(judge.identity, question, drawing) for question in questions]
    known: dict[str, str | Unanswered] = {}
    missing: dict[str, Messages] = {}
    for name, question in zip(names, questions, strict=True):
        if name in known or name in missing:
            continue
        found = _read(name)
        if found is None:
            missing[name] = question
        else:
            known[name] = found
    waiting = list(missing.items())
    for start in range(0, len(waiting), TOGETHER):
        part = waiting[start : start + TOGETHER]
        said = judge.answer([question for _, question in part], drawing)
        for (name, _), answer in zip(part, said, strict=True):
            known[name] = answer
            if isinstance(answer, str):
                _write(name, answer)
    return [known[name] for name in names]


def _name(identity: str, question: Messages, drawing: Drawing) -> str:
    asked = json.dumps([identity, question, asdict(drawing)], sort_keys=True)
    return sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()


def _path(name: str) -> Path:
    return home() / "judged" / name[:2] / f"{name}.json"


def _read(name: str) -> str | None:
    try:
        answer = json.loads(_path(name).read_text(encoding="utf-8"))["answer"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return answer if isinstance(answer, str) else None


def _write(name: str, answer: str) -> None:
    """Keep an answer; a disk that refuses costs the next run a question, and this one nothing."""
    path = _path(name)
    part = path.with_suffix(f".{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"answer": answer}), encoding="utf-8")
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
