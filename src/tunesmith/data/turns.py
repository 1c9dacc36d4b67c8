"""Which orders of turns can be trained on.

Chat templates differ in what they do with an odd order: some raise, some merge, some drop a turn in
silence. So the orders that every template understands are the ones that are accepted.
"""

from collections.abc import Sequence

from tunesmith.data.row import Message, RowProblem

ROLES = ("system", "user", "assistant", "tool")

_FOLLOWS = {
    "system": (),
    "user": ("system", "assistant", "tool"),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
"""The roles that may stand before each; `system` only begins."""


def check_turns(messages: Sequence[Message]) -> None:
    """Checks roles, their order, and that each answer says something.

    Args:
        messages: All turns of a row that is trained on.

    Raises:
        RowProblem: The first thing that is wrong, with the number of the message.
    """
    if not messages:
        raise RowProblem("no messages", "at least a user and an assistant message")
    before = None
    for number, message in enumerate(messages, 1):
        _check_place(message.role, before, number)
        _check_answer(message, number)
        before = message.role
    if before != "assistant":
        raise RowProblem(
            f"a last message from {before!r}",
            "the last message from 'assistant': it is what is learned",
            "remove the messages behind the last answer",
        )


def _check_place(role: str, before: str | None, number: int) -> None:
    """Raises when `role` cannot stand behind `before` (None at the start)."""
    if role not in ROLES:
        raise RowProblem(f"role {role!r} in message {number}", f"one of {', '.join(ROLES)}")
    if role == "system" and before is not None:
        raise RowProblem(
            f"role 'system' in message {number}, behind {before!r}",
            "a system message only as the first",
        )
    if before is None and role in ("assistant", "tool"):
        raise RowProblem(f"a first message from {role!r}", "'system' or 'user' first")
    if before is not None and before not in _FOLLOWS[role]:
        allowed = " or ".join(repr(name) for name in _FOLLOWS[role])
        raise RowProblem(
            f"role {role!r} behind {before!r} (message {number})",
            f"{role!r} only behind {allowed}",
            f"join the two {role} messages into one" if role == before else "",
        )


def _check_answer(message: Message, number: int) -> None:
    """Raises when an assistant message says nothing at all."""
    if message.role == "assistant" and not message.content.strip() and not message.tool_calls:
        raise RowProblem(
            f"an empty answer (assistant message {number})",
            "text, or tool_calls",
            "remove the row, or set data.on_bad_row: skip",
        )
