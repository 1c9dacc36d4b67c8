"""Rows to token ids, and which of them are trained: the heart of the token contract.

The rule: the ids that inference starts an answer from are a prefix of the ids trained on. So the
prompt is rendered and tokenised exactly as inference does it, and compared, for every answer of
every row. Where a template or the tokenizer breaks the rule, the row is refused, never trained.
"""

import hashlib
import json
from collections.abc import Sequence
from copy import copy
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from tunesmith.data.alignment import Turn, align, answer_ends
from tunesmith.data.answer_text import AnswerText
from tunesmith.data.chat_text import ChatText, check_nothing_lost
from tunesmith.data.encoded import Encoded
from tunesmith.data.row import Conversation, RowProblem, Text
from tunesmith.data.sandbox import Cut
from tunesmith.data.shapes import ANSWERED
from tunesmith.data.tokenizer_facts import added_bos, end_token, stop_texts, tokenizer_state
from tunesmith.errors import DataError

TrainOn = Literal["assistant", "last", "all"]
Overlong = Literal["error", "drop", "truncate"]


class Renderer:
    """Turns rows into tokens for one base.

    Args:
        tokenizer: Of the base, with its chat template if it has one.
        stop_ids: Tokens that end an answer.
        train_on: `assistant`: every assistant message, as much as its weight says; `last`: the last
            one only; `all`: every token but the first, and the assistant's by their weights.
        max_tokens: Longest example.
        overlong: Only `truncate` matters here: it cuts the end off.

    Attributes:
        bos: The BOS that the tokenizer adds by itself, as a list of one or no id.
        weighs: Whether the method counts the loss of each token by its weight.

    Raises:
        ModelError: The tokenizer has no token that ends a text, or a chat template too long to use.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stop_ids: frozenset[int],
        train_on: TrainOn = "assistant",
        max_tokens: int = 2048,
        overlong: Overlong = "error",
    ) -> None:
        self.tokenizer, self.stop_ids, self.train_on = tokenizer, stop_ids, train_on
        self.max_tokens, self.overlong = max_tokens, overlong
        self.weighs = False
        self._chat = ChatText(tokenizer) if tokenizer.chat_template else None
        self.bos = added_bos(tokenizer)
        self._eos = end_token(tokenizer, stop_ids)
        self._answers = AnswerText(self._chat, stop_texts(tokenizer, stop_ids))

    @property
    def writes_day(self) -> bool:
        """Whether the chat template asks for today's date."""
        return self._chat is not None and self._chat.writes_day

    @property
    def shapes(self) -> frozenset[str]:
        """Rows that are answers, or texts."""
        return ANSWERED

    def weighing(self) -> "Renderer":
        """The same for a method that counts the loss of each token by its weight."""
        other = copy(self)
        other.weighs = True
        return other

    def look_ahead(self, contents: Sequence[Conversation | Text]) -> None:
        """Prepare the texts of rows that are encoded next; all at once takes less time.

        Raises:
            ModelError: The chat template is none, or went beyond a limit.
        """
        if self._chat is None:
            return
        wanted = []
        for content in contents:
            if isinstance(content, Conversation) and (turns := self._possible_turns(content)):
                wanted.append((content, _cuts(content, turns)))
        self._chat.look_ahead(wanted)

    def _possible_turns(self, content: Conversation) -> list[Turn]:
        """Its answers; none where `encode` will say what is wrong with one."""
        try:
            return self._turns(content)
        except RowProblem:
            return []

    def encode(self, content: Conversation | Text) -> Encoded:
        """The tokens of a row and which are trained.

        Raises:
            RowProblem: The row cannot be trained on: the template or the tokenizer breaks the rule
                above or leaves something out, or no token would be trained.
            DataError: The base has no chat template and the row needs one.
        """
        if isinstance(content, Text):
            ids, weights, prompt_tokens = self._text(content)
        else:
            ids, weights, prompt_tokens = self._conversation(content)
        truncated = self.overlong == "truncate" and len(ids) > self.max_tokens
        if truncated:
            ids, weights = ids[: self.max_tokens], weights[: self.max_tokens]
        weights[:1] = 0.0
        trained = weights > 0
        if not trained.any():
            raise _untrained(truncated, self.max_tokens)
        plain = bool((weights[trained] == 1).all())
        return Encoded(
            np.asarray(ids, dtype=np.int32),
            trained,
            prompt_tokens,
            truncated,
            weights=weights[:0] if plain else weights,
        )

    def examples(self, content: Conversation | Text) -> list[Encoded]:
        """The one example that a row makes; raises as `encode`."""
        return [self.encode(content)]

    def prompt(self, conversation: Conversation) -> list[int]:
        """What inference sees: the turns before the last answer, and the opening of an answer.

        A conversation that does not end with an assistant message is taken whole.
        """
        end = len(conversation.messages)
        if end and conversation.messages[-1].role == "assistant":
            end -= 1
        if self._chat is None:
            return self.bos + self._ids(self._plain_prompt(conversation, end))
        return self._ids(self._chat.prompt(conversation, end))

    def framed(self, ids: list[int]) -> list[int]:
        """The ids of a document with BOS before them, where the base has one, and an end behind."""
        ids = ids if ids[:1] == self.bos else self.bos + ids
        return ids if ids[-1:] == [self._eos] else [*ids, self._eos]

    def reference(self, conversation: Conversation) -> str:
        """The last answer, as a grader compares it: its text, or the tool calls as rendered."""
        last = conversation.messages[-1]
        if not last.tool_calls or self._chat is None:
            return last.content
        start = self._chat.prompt(conversation, len(conversation.messages) - 1)
        answer = self._chat.whole(conversation)[len(start) :]
        return self._answers.before_stop(answer)

    def explain(self, encoded: Encoded) -> list[tuple[str, bool]]:
        """The example as pieces of text with whether each is trained, for a preview."""
        changes = np.flatnonzero(np.diff(encoded.trained)) + 1
        pieces = []
        for piece in np.split(np.arange(len(encoded.input_ids)), changes):
            text = self.tokenizer.decode(
                encoded.input_ids[piece].tolist(), clean_up_tokenization_spaces=False
            )
            pieces.append((text, bool(encoded.trained[piece[0]])))
        return pieces

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides the tokens: tokenizer, template, stop tokens, options."""
        parts = {
            "tokenizer": tokenizer_state(self.tokenizer),
            "template": self.tokenizer.chat_template,
            "special": {key: str(token) for key, token in self._special().items()},
            "stop": sorted(self.stop_ids),
            "options": [self.train_on, self.max_tokens, self.overlong, self.weighs],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _special(self) -> dict[str, object]:
        return {**self.tokenizer.special_tokens_map, "bos_added": self.bos}

    def _ids(self, text: str) -> list[int]:
        """Ids of a text, nothing added; truncation set in a tokenizer file does not apply."""
        encoded = self.tokenizer(
            text, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        return encoded["input_ids"]

    def _text(self, content: Text) -> tuple[list[int], np.ndarray, int]:
        """A document: BOS where the base has one, the text, its end; everything trained."""
        ids = self.framed(self._ids(content.text))
        return ids, np.ones(len(ids), dtype=np.float32), 0

    def _conversation(self, content: Conversation) -> tuple[list[int], np.ndarray, int]:
        """A conversation: ids, weights of their loss, tokens before the last answer."""
        turns = self._turns(content)
        bos = []
        if self._chat is None:
            end = len(content.messages) - 1
            prompts = [self._plain_prompt(content, end)]
            text, bos = prompts[0] + content.messages[-1].content, self.bos
        else:
            self._chat.ensure(content, _cuts(content, turns))
            text = self._chat.whole(content)
            prompts = [self._chat.prompt(content, turn.index) for turn in turns]
        ids, starts = align(self._ids, self.tokenizer, text, prompts)
        ends = answer_ends(ids, starts, self.stop_ids)
        if ends[-1] is None:
            # Without it the model would never learn to stop.
            ids, ends[-1] = [*ids, self._eos], len(ids) + 1
        if self._chat is not None:
            self._answers.check_earlier(content, turns, prompts, ends, text)
            written = self._answers.written(content, turns, prompts, text)
            check_nothing_lost(content, text, written)
        weights = np.full(len(bos) + len(ids), self.train_on == "all", dtype=np.float32)
        for turn, start, end in zip(turns, starts, ends, strict=True):
            weights[len(bos) + start : len(bos) + end] = turn.weight
        return bos + ids, weights, len(bos) + starts[-1]

    def _turns(self, content: Conversation) -> list[Turn]:
        """The answers whose place in the tokens must be known: trained, last, or of weight 0."""
        last = len(content.messages) - 1
        turns = []
        for index, message in enumerate(content.messages):
            if message.role != "assistant":
                continue
            self._answers.check_no_stop(message, index)
            weight = 1.0 if message.weight is None else message.weight
            if self.train_on == "last" and index != last:
                weight = 0.0
            if weight or index == last or self.train_on == "all":
                turns.append(Turn(index, weight))
        return turns

    def _plain_prompt(self, conversation: Conversation, end: int) -> str:
        """The prompt of a row on a base without a chat template.

        Raises:
            DataError: The row is no prompt and completion.
        """
        if conversation.kind != "completion":
            raise DataError(
                "chat template",
                got="a base without a chat template, and rows with chat messages",
                expected="rows of prompt and completion, Alpaca or text for such a base",
                hint="use a base tuned for chat (its name often ends in -Instruct or -it)",
            )
        if conversation.plain_prompt is not None:
            return conversation.plain_prompt
        return "".join(message.content for message in conversation.messages[:end])


def _cuts(content: Conversation, turns: Sequence[Turn]) -> list[Cut]:
    """The texts that a row needs: all of it, its prompts, and each earlier answer while last."""
    earlier = [(turn.index + 1, False) for turn in turns[:-1]]
    return [(len(content.messages), False), *((turn.index, True) for turn in turns), *earlier]


def _untrained(truncated: bool, max_tokens: int) -> RowProblem:
    """The problem of a row that would train nothing."""
    if truncated:
        got = f"no token to train on within the first {max_tokens}"
        return RowProblem(got, "an answer that begins before", "raise data.max_tokens")
    return RowProblem("no token to train on", "an answer with a weight other than 0")
