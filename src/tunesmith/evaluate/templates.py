"""Texts with places to fill, as OpenAI's graders write them: `{{ item.answer }}`.

A place is a dotted path into the row (`item.`) or the output (`sample.`). Paths are looked up and
their values put in: there are no expressions, and nothing is ever run.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from tunesmith.config.check import did_you_mean
from tunesmith.errors import RecipeError

ROOTS = ("item", "sample")
_PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"\w[\w-]*(?:\.[\w-]+|\[\d+\])*")


def check_template(text: str) -> str:
    """Return `text` when each of its places is a path into `item` or `sample`.

    Raises:
        ValueError: A place is something else, or is not closed.
    """
    for path in places(text):
        if not _PATH.fullmatch(path) or _parts(path)[0] not in ROOTS:
            raise ValueError(
                f"a path such as item.answer or sample.output_text, not {{{{{path}}}}}"
            )
    if "{{" in _PLACE.sub("", text):
        raise ValueError("a }} for every {{")
    return text


Template = Annotated[str, AfterValidator(check_template)]
"""A key of a grader whose value is a text with places."""


def places(text: str) -> list[str]:
    """The paths of a template, in order."""
    return [path.strip() for path in _PLACE.findall(text)]


def fill(text: str, output: str, reference: str, row: Mapping[str, Any]) -> str:
    """Put the values in place of the paths of `text`.

    `sample.output_text` is the output; `sample.output_json` is the output parsed. `item` is the
    row; `item.reference` and `item.reference_answer` are the reference answer, unless the row has
    such a key itself. A value that is no text is written as JSON.

    Args:
        text: A template.
        output: What the model wrote.
        reference: The answer it should have written; empty when the row has none.
        row: The row as it stands in the file.

    Raises:
        RecipeError: A path leads nowhere; the message names it and what there is instead.
        ValueError: `sample.output_json` of an output that is not JSON.
    """
    answers = {"reference": reference, "reference_answer": reference} if reference else {}
    values: dict[str, Any] = {"item": {**answers, **row}, "sample": {"output_text": output}}
    if any(_parts(path)[:2] == ["sample", "output_json"] for path in places(text)):
        values["sample"]["output_json"] = json.loads(output)
    # In one pass, so that braces in the user's own text are never taken for a place.
    return _PLACE.sub(lambda match: _shown(_look_up(values, match[1].strip())), text)


def _parts(path: str) -> list[str]:
    return re.findall(r"[^.\[\]]+", path)


def _look_up(values: dict[str, Any], path: str) -> Any:
    value: Any = values
    walked: list[str] = []
    for part in _parts(path):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            raise _leads_nowhere(path, ".".join(walked), value, part)
        walked.append(part)
    return value


def _leads_nowhere(path: str, walked: str, value: Any, part: str) -> RecipeError:
    names = sorted(map(str, value)) if isinstance(value, dict) else []
    if names:
        expected = f"a key that {walked} has: {', '.join(names)}"
    elif isinstance(value, list):
        expected = f"a place in {walked}, which has {len(value)}"
    else:
        expected = f"a path that ends at {walked}, which has no keys"
    got = f"{{{{{path}}}}}, a path that leads nowhere"
    return RecipeError("grader", got=got, expected=expected, hint=did_you_mean(part, names))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
