"""1 when the model holds the right one of some options for the most probable, else 0.

    argmax_i  log p(option_i | prompt) / n_i

by the model that is graded; it writes nothing. n_i is 1, or with `normalize` the number of
characters or of tokens of the option. This is the accuracy (`acc`, `acc_norm`) of multiple choice
in public benchmarks, here with the prompt as the chat template writes it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tunesmith.config.section import Section
from tunesmith.evaluate.graders.base import Answered, Scored, failed
from tunesmith.evaluate.means import Means
from tunesmith.evaluate.templates import Template, look_up


class Config(Section):
    """Options, and the right one."""

    type: Literal["choice"] = "choice"
    name: str = ""
    """What reports call it."""
    options: list[str] | Template = "{{item.options}}"
    """The options of every row, or a place in the row that has a list of them."""
    reference: Template = "{{item.reference_answer}}"
    """The right option: its text, or its place among the options, from 0."""
    normalize: Literal["none", "characters", "tokens"] = "none"
    """What a log-probability is divided by: longer options are less probable."""


def reads_output(config: Config) -> bool:
    """Nothing is written: the options are compared."""
    return False


def check(config: Config, reference: str, row: Mapping[str, Any]) -> None:
    """Raise where the row has no options, or the right one is not among them."""
    _options(config, Answered("", reference, row))


def score_all(config: Config, answers: Sequence[Answered], means: Means) -> list[Scored]:
    """1 or 0 for each row, with the option that the model prefers."""
    asked: list[tuple[list[str], int] | Scored] = []
    pairs: list[tuple[Sequence[int], str]] = []
    for answer in answers:
        try:
            options, right = _options(config, answer)
        except ValueError as error:
            asked.append(failed(error))
            continue
        asked.append((options, right))
        pairs += [(answer.prompt, option) for option in options]
    found = iter(means.log_likelihoods(pairs) if pairs else [])
    return [
        row if isinstance(row, Scored) else _scored(config, *row, [next(found) for _ in row[0]])
        for row in asked
    ]


def _scored(
    config: Config, options: list[str], right: int, found: list[tuple[float, int]]
) -> Scored:
    divisors = {
        "none": [1] * len(options),
        "characters": [len(option) for option in options],
        "tokens": [num_tokens for _, num_tokens in found],
    }[config.normalize]
    values = [log_p / n for (log_p, _), n in zip(found, divisors, strict=True)]
    best = max(range(len(options)), key=values.__getitem__)
    return Scored(float(best == right), said=options[best])


def _options(config: Config, answer: Answered) -> tuple[list[str], int]:
    """The options of a row, and the place of the right one among them."""
    given = (answer.output, answer.reference, answer.row)
    options = config.options
    if isinstance(options, str):
        options = look_up(options, *given)
    if not isinstance(options, list) or len(options) < 2:
        raise ValueError(f"options that are no list of two or more: {str(options)[:60]}")
    options = [str(option) for option in options]
    if not all(options) or len(set(options)) < len(options):
        raise ValueError("options that are empty, or not all different")
    right = look_up(config.reference, *given)
    if isinstance(right, int) and not isinstance(right, bool) and 0 <= right < len(options):
        return options, right
    if str(right).strip() not in options:
        raise ValueError(f"a right answer that is none of the options: {str(right)[:60]!r}")
    return options, options.index(str(right).strip())
