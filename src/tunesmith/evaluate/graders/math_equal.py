r"""1 when the answer to a problem in mathematics has the value of the right one, else 0.

Of the output as of the reference the last `\boxed{...}` counts, or what follows `####`, as in
GSM8K, or "answer is", or of the output the last number (`evaluate/math_answer.py`). Numbers,
fractions, percents, roots, powers and lists of them are read, in plain writing and in LaTeX, and
are equal within a relative tolerance. 50% is 0.5, and it is 50 where the reference has no percent
sign. Other answers, with unknowns for one, are equal when they are written alike but for spaces.
"""

from collections.abc import Mapping
from math import isclose
from typing import Any, Literal

from pydantic import Field

from tunesmith.config.section import Section
from tunesmith.evaluate.graders.base import need_reference
from tunesmith.evaluate.math_answer import answer_in, numbers_of, plain_text
from tunesmith.evaluate.templates import Template, fill

MAX_WORDS = 8
"""Of a right answer without a value: a longer one is a solution, not its answer."""


class Config(Section):
    """An answer and the right one."""

    type: Literal["math_equal"] = "math_equal"
    name: str = ""
    """What reports call it."""
    input: Template = "{{sample.output_text}}"
    """The text with the answer."""
    reference: Template = "{{item.reference_answer}}"
    """The text with the right answer."""
    tolerance: float = Field(1e-6, ge=0, lt=1)
    """Largest difference of equal numbers, as a share of the right one."""


def grade(config: Config, output: str, reference: str, row: Mapping[str, Any]) -> float:
    """1.0 or 0.0; a ValueError when the row has no answer."""
    wanted = answer_in(fill(config.reference, output, reference, row), last_number=False)
    need_reference(wanted)
    right = numbers_of(wanted)
    if right is None and len(wanted.split()) > MAX_WORDS:
        raise ValueError("a right answer of many words: mark its value with #### or \\boxed{}")
    got = answer_in(fill(config.input, output, reference, row), last_number=right is not None)
    values = numbers_of(got)
    if values is None or right is None:
        return float(_written(got) == _written(wanted))
    if len(values) != len(right):
        return 0.0
    pairs = zip(values, right, strict=True)
    return float(all(_equal(one, other, config.tolerance) for one, other in pairs))


def _equal(got: tuple[float, bool], right: tuple[float, bool], tolerance: float) -> bool:
    """Whether two values are equal; a percent sign that only one has may also be nothing."""
    wanted = right[0] / 100 if right[1] else right[0]
    as_written = [got[0] / 100 if got[1] else got[0]]
    if got[1] != right[1]:
        as_written.append(got[0] if got[1] else got[0] / 100)
    return any(isclose(each, wanted, rel_tol=tolerance, abs_tol=1e-12) for each in as_written)


def _written(answer: str) -> str:
    return "".join(plain_text(answer).split())
