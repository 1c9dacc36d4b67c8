"""The answers of a conversation as the chat template writes them, each up to its stop token."""

from collections.abc import Sequence

from tunesmith.data.alignment import Turn, changes_earlier
from tunesmith.data.chat_text import LAST_HINT, ChatText, texts_in
from tunesmith.data.row import Conversation, Message, RowProblem


class AnswerText:
    """Cuts answers out of rendered text.

    Args:
        chat: Renders; None for a base without a chat template, which has one answer only.
        stops: Texts of the stop tokens; may be empty.
    """

    def __init__(self, chat: ChatText | None, stops: tuple[str, ...]) -> None:
        self._chat, self._stops = chat, stops

    def before_stop(self, answer: str) -> str:
        """The text before the first stop token; all of it where there is none."""
        ends = [answer.find(stop) for stop in self._stops if stop in answer]
        return answer[: min(ends)] if ends else answer

    def check_no_stop(self, message: Message, index: int) -> None:
        """Raises when an answer holds the text of a stop token, which would end it there.

        That goes for its reasoning and for what it calls a tool with as well: the example would be
        trained up to there and look whole.
        """
        said = (message.content, message.reasoning, *texts_in(message.tool_calls))
        for stop in self._stops:
            if any(stop in part for part in said):
                raise RowProblem(
                    f"the stop token {stop!r} inside assistant message {index + 1}",
                    "answers without it: the template writes it",
                    "remove it from the data",
                )

    def check_earlier(
        self,
        conversation: Conversation,
        turns: Sequence[Turn],
        prompts: Sequence[str],
        ends: Sequence[int | None],
        text: str,
    ) -> None:
        """Checks that each answer before the last is what the model would have to write there.

        That is what the template writes while the conversation ends with it.

        Args:
            conversation: The row.
            turns: Its answers, in order.
            prompts: What inference sees before each.
            ends: Where each ends in the tokens; None where no stop token was found.
            text: The row, rendered.

        Raises:
            RowProblem: The template writes it otherwise once turns follow, or without a stop token.
        """
        for turn, prompt, end in zip(turns[:-1], prompts[:-1], ends[:-1], strict=True):
            start = len(prompt)
            alone = self._chat.closed(conversation, turn.index + 1)[start:]
            own = self.before_stop(alone)
            if end is None or (self._stops and own == alone):
                raise RowProblem(
                    f"a chat template that writes no stop token behind message {turn.index + 1}",
                    "each trained answer to end with one",
                    LAST_HINT,
                )
            ended = alone[: len(own) + self._stop_length(alone, len(own))]
            if not text.startswith(ended, start):
                raise changes_earlier(ended, text[start:], f"message {turn.index + 1}")

    def written(
        self,
        conversation: Conversation,
        turns: Sequence[Turn],
        prompts: Sequence[str],
        text: str,
    ) -> dict[int, str]:
        """By index of the message, what the template writes for each answer."""
        found = {}
        for turn, prompt in zip(turns, prompts, strict=True):
            answer = text[len(prompt) :]
            if conversation.messages[turn.index].content.strip() not in answer:
                # The prompt may have opened the answer already, for example with <think>.
                before = self._chat.closed(conversation, turn.index)
                answer = text[len(before) :] if text.startswith(before) else answer
            found[turn.index] = self.before_stop(answer)
        return found

    def _stop_length(self, text: str, at: int) -> int:
        """Length of the stop token's text at a place; 0 where none is."""
        return next((len(stop) for stop in self._stops if text.startswith(stop, at)), 0)
