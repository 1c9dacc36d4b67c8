"""A model in memory as lm-eval's tasks see it. Imported only where lm-eval is installed."""

from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from tunesmith.api.answer import Speaker
from tunesmith.api.likelihood import Pair, likelihoods
from tunesmith.data.tokenizer_facts import added_bos
from tunesmith.generate.answers import answers
from tunesmith.generate.generate import generate
from tunesmith.generate.modes import max_tokens
from tunesmith.generate.options import GenerateOptions, Sampling
from tunesmith.models.policy import Policy

MAX_NEW_TOKENS = 256
"""Of an answer, where a task says nothing: lm-eval's own default."""
POSITIONS = 2048
"""Of a model that names no longest text: lm-eval's own default."""


@dataclass(frozen=True, slots=True)
class _Options:
    """How a task wants its answers.

    Attributes:
        until: Texts that end an answer; they are no part of it.
        max_new_tokens: Longest answer.
        temperature: 0 is greedy.
        top_p: Share of the probability that tokens are drawn from.
    """

    until: tuple[str, ...]
    max_new_tokens: int
    temperature: float
    top_p: float

    @classmethod
    def of(cls, given: dict[str, Any]) -> "_Options":
        """From the `generation_kwargs` of a task."""
        until = given.get("until") or ()
        temperature = float(given.get("temperature") or 0.0)
        return cls(
            until=(until,) if isinstance(until, str) else tuple(until),
            max_new_tokens=int(given.get("max_gen_toks", MAX_NEW_TOKENS)),
            temperature=temperature if given.get("do_sample", temperature > 0) else 0.0,
            top_p=float(given.get("top_p", 1.0)),
        )

    def cut(self, text: str) -> str:
        """`text` up to the first of the stop texts."""
        ends = [text.find(stop) for stop in self.until if stop and stop in text]
        return text[: min(ends)] if ends else text


class HarnessModel(TemplateLM):
    """Log-likelihoods and answers of a model for lm-eval.

    Texts become tokens as in lm-eval's own class for transformers: with the BOS that the tokenizer
    writes by itself, and no chat template unless it was asked for.

    Args:
        speaker: The model.
        policy: The same, for probabilities.
    """

    def __init__(self, speaker: Speaker, policy: Policy) -> None:
        super().__init__()
        self._speaker, self._policy = speaker, policy
        self.tokenizer = speaker.tokenizer
        self._bos = added_bos(speaker.tokenizer)
        self._longest = max_tokens(speaker.model) or POSITIONS

    @property
    def eot_token_id(self) -> int:
        """The token that stands for the end of a text."""
        eos = self.tokenizer.eos_token_id
        return min(self._speaker.stop_ids) if eos is None else eos

    @property
    def prefix_token_id(self) -> int:
        """What a text without context is conditioned on: BOS, or the end of another text."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        """Under which lm-eval keeps what was tokenised."""
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids; with the tokenizer's own BOS in front unless special tokens are declined."""
        ids = list(self.tokenizer(string, add_special_tokens=False)["input_ids"])
        bos = [] if add_special_tokens is False or ids[:1] == self._bos else self._bos
        return [*bos, *ids]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the base's template writes it."""
        return self._speaker.template.text(chat_history, opened=add_generation_prompt)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log p of whole texts, in windows where a text is longer than the model sees."""
        pairs: list[Pair] = []
        counts = []
        for (text,) in (request.args for request in requests):
            windows = get_rolling_token_windows(
                self.tok_encode(text, add_special_tokens=False),
                self.prefix_token_id,
                max_seq_len=self._longest - 1,
                context_len=1,
            )
            before = len(pairs)
            pairs += map(make_disjoint_window, windows)
            counts.append(len(pairs) - before)
        found = iter(self._likely(pairs))
        return [sum(next(found)[0] for _ in range(count)) for count in counts]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers, each up to the first of its task's stop texts."""
        said: dict[int, str] = {}
        for options in {_Options.of(request.args[1]) for request in requests}:
            mine = [i for i, r in enumerate(requests) if _Options.of(r.args[1]) == options]
            texts = self._texts([requests[i].args[0] for i in mine], options)
            said |= dict(zip(mine, texts, strict=True))
        return [said[i] for i in range(len(requests))]

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        return self._likely([(context, continuation) for _, context, continuation in requests])

    def _likely(self, pairs: list[Pair]) -> list[tuple[float, bool]]:
        cut = [self._cut(*pair) for pair in pairs]
        found = likelihoods(self._policy, cut, self._speaker.pad)
        return [(each.log_prob, each.greedy) for each in found]

    def _cut(self, context: list[int], continuation: list[int]) -> Pair:
        """The last tokens that the model has positions for, at least one of them context."""
        ids = [*context, *continuation][-self._longest :]
        start = max(len(ids) - len(continuation), 1)
        return ids[:start], ids[start:]

    def _texts(self, contexts: list[str], options: "_Options") -> list[str]:
        room = max(self._longest - options.max_new_tokens, 1)
        prompts = [self.tok_encode(context)[-room:] for context in contexts]
        asked = GenerateOptions(options.max_new_tokens, self._speaker.stop_ids, self._speaker.pad)
        if options.temperature:
            sampling = Sampling(options.temperature, options.top_p)
            drawn = answers(self._speaker.model, prompts, asked, sampling)
            tokens = [each[0].tokens for each in drawn]
        else:
            tokens = generate(self._speaker.model, prompts, asked)
        return [options.cut(self._speaker.text(each)) for each in tokens]
