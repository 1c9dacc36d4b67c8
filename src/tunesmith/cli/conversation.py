"""A conversation at the terminal with one model, and if wanted with its base beside it."""

import sys

from tunesmith.api.answer import Speaker
from tunesmith.generate.options import Sampling


class Conversation:
    """Keeps the turns and prints answers as they come.

    Args:
        speaker: The model.
        system: System message; None takes the one that the run was trained with, if any.
        max_new_tokens: Longest answer.
        sampling: How tokens are drawn.
    """

    def __init__(
        self, speaker: Speaker, system: str | None, max_new_tokens: int, sampling: Sampling
    ) -> None:
        self._speaker = speaker
        self._system = speaker.system if system is None else system
        self._max_new_tokens = max_new_tokens
        self._sampling = sampling
        self.reset()

    def reset(self) -> None:
        """Forget all turns."""
        self._turns: list[dict[str, str]] = []
        if self._system:
            self._turns.append({"role": "system", "content": self._system})

    def ask(self, message: str, compare: bool, show: bool) -> dict[str, str]:
        """One turn.

        Args:
            message: What the user says.
            compare: Answer as the base too; its answer is no part of the conversation.
            show: Print pieces as they come.

        Returns:
            `answer`, and `base` when comparing.
        """
        self._turns.append({"role": "user", "content": message})
        answers = {}
        if compare:
            with self._speaker.as_base():
                answers["base"] = self._say("base ", show)
        answers["answer"] = self._say("tuned" if compare else "model", show)
        self._turns.append({"role": "assistant", "content": answers["answer"]})
        return answers

    def _say(self, who: str, show: bool) -> str:
        if show:
            sys.stdout.write(f"{who}> ")
        text = ""
        for piece in self._speaker.stream(self._turns, self._max_new_tokens, self._sampling):
            text += piece
            if show:
                sys.stdout.write(piece)
                sys.stdout.flush()
        if show:
            sys.stdout.write("\n")
        return text
