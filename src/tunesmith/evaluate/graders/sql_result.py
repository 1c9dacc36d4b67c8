"""Whether an SQL query gives the rows that the right query gives, in SQLite.

Both run in a sandbox, on tables that `setup` makes in memory or on a `database` file, neither of
which they can change. Rows count in any order unless the right query ends in ORDER BY; names of
columns do not count, their order does; 1 is 1.0. A query that fails, writes, overstays or gives
more than 100,000 rows is a wrong answer. The query is the inside of the output's first ``` fence,
or all of it.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from tunesmith.config.section import Section
from tunesmith.evaluate import sandbox
from tunesmith.evaluate.fenced import code_in
from tunesmith.evaluate.graders._boxed import graded, requests_of
from tunesmith.evaluate.graders.base import Answered, Scored
from tunesmith.evaluate.means import Means
from tunesmith.evaluate.sandbox.box import Box, Request
from tunesmith.evaluate.templates import Template, fill

SOURCE = Path(sandbox.__file__).with_name("run_query.py")


class Config(Section):
    """A query, the right one, and where both run."""

    type: Literal["sql_result"] = "sql_result"
    name: str = ""
    """What reports call it."""
    input: Template = "{{sample.output_text}}"
    """The query, in a ``` fence or bare."""
    reference: Template = "{{item.reference_answer}}"
    """The right query."""
    setup: Template = ""
    """SQL that makes the tables and their rows, for example {{item.schema}}."""
    database: str = ""
    """Path of a SQLite file, in place of `setup`."""
    timeout_seconds: float = Field(5.0, gt=0, le=600)
    """For one query, on a clock."""
    memory_mib: int = Field(256, ge=16)
    """Beyond what Python itself holds."""

    @field_validator("database")
    @classmethod
    def _is_there(cls, path: str) -> str:
        if path and not Path(path).is_file():
            raise ValueError("a file of SQLite")
        return str(Path(path).resolve()) if path else ""


def check(config: Config, reference: str, row: Mapping[str, Any]) -> None:
    """Raise where the row has no right query."""
    _request(config, Answered(reference, reference, row))


def score_all(config: Config, answers: Sequence[Answered], means: Means) -> list[Scored]:
    """1 or 0 for each query."""
    requests = requests_of(partial(_request, config), answers)
    box = Box(
        SOURCE.read_text(encoding="utf-8"),
        2 * config.timeout_seconds + 1,
        config.memory_mib,
        readable=(config.database,) if config.database else (),
    )
    return [Scored(each.score, each.failure) for each in graded(box, requests)]


def _request(config: Config, answer: Answered) -> Request:
    given = (answer.output, answer.reference, answer.row)
    reference = fill(config.reference, *given)
    if not reference.strip():
        raise ValueError("the row has no query to compare with")
    item = {
        "reference": code_in(reference),
        "setup": fill(config.setup, *given),
        "database": config.database,
        "seconds": config.timeout_seconds,
    }
    return {"query": code_in(fill(config.input, *given))}, item
