"""What graders share that run each answer in the sandbox, beside what its row asks for."""

from collections.abc import Callable, Sequence

from tunesmith.evaluate.graders.base import Answered, Scored, failed
from tunesmith.evaluate.sandbox.box import Box, Graded, Request


def requests_of(
    make: Callable[[Answered], Request], answers: Sequence[Answered]
) -> list[Request | Scored]:
    """What the sandbox is asked of each answer; a score of 0 where `make` raises ValueError."""
    requests: list[Request | Scored] = []
    for answer in answers:
        try:
            requests.append(make(answer))
        except ValueError as error:
            requests.append(failed(error))
    return requests


def graded(box: Box, requests: Sequence[Request | Scored]) -> list[Graded | Scored]:
    """What came of each, in order; what is scored already stays."""
    asked = iter(box.grade([each for each in requests if not isinstance(each, Scored)]))
    return [each if isinstance(each, Scored) else next(asked) for each in requests]
