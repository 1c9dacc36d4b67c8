"""Code in an answer: inside its first Markdown fence, or all of it."""

import re

_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def code_in(text: str) -> str:
    """The inside of the first ``` fence of `text`; the whole text where there is none."""
    found = _FENCE.search(text)
    return found[1] if found else text
