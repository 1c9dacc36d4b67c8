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
from tunesmith.evaluate.tool_calls import find_calls

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

    What the paths lead into is told in `values_of`. A value that is no text is written as JSON.

    Args:
        text: A template.
        output: What the model wrote.
        reference: The answer it should have written; empty when the row has none.
        row: The row as it stands in the file.

    Raises:
        RecipeError: A path leads nowhere; the message names it and what there is instead.
        ValueError: `sample.output_json` of an output that is not JSON.
    """
    paths = places(text)
    values = values_of(output, reference, row) if paths else {}
    if values and values["sample"]["output_json"] is None:
        _need_json(paths, output)
    # In one pass, so that braces in the user's own text are never taken for a place.
    return _PLACE.sub(lambda match: _shown(_look_up(values, match[1].strip())), text)


def look_up(text: str, output: str, reference: str, row: Mapping[str, Any]) -> Any:
    """The value itself where the template is one place and nothing else; else as `fill`.

    Raises:
        RecipeError: As `fill`.
        ValueError: As `fill`.
    """
    whole = _PLACE.fullmatch(text.strip())
    if whole is None or len(places(text)) != 1:
        return fill(text, output, reference, row)
    return _look_up(values_of(output, reference, row), whole[1].strip())


def values_of(output: str, reference: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """What graders may look into: `sample`, the output, and `item`, the row.

    `sample.output_text` is the output, `sample.output_json` the output parsed (None where it is not
    JSON), `sample.output_tools` the tools that it calls, and `sample.choices` what OpenAI's API
    would have returned. `item` is the row; `item.reference` and `item.reference_answer` are the
    reference answer, unless the row has such a key itself.
    """
    answers = {"reference": reference, "reference_answer": reference} if reference else {}
    try:
        parsed = json.loads(output)
    except (ValueError, RecursionError):
        parsed = None
    calls = [{"type": "function", "function": call.as_dict()} for call in find_calls(output)]
    message = {"role": "assistant", "content": output, "tool_calls": calls}
    given = {
        "output_text": output,
        "output_json": parsed,
        "output_tools": calls,
        "choices": [{"index": 0, "message": message}],
    }
    return {"item": {**answers, **row}, "sample": given}


def _need_json(paths: list[str], output: str) -> None:
    if any(_parts(path)[:2] == ["sample", "output_json"] for path in paths):
        json.loads(output)


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
