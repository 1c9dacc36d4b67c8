"""The keys of graders that ask a model, as OpenAI's API has them, and where that model is."""

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from tunesmith.config.section import Section
from tunesmith.evaluate.means import Drawing, Messages
from tunesmith.evaluate.templates import Template, fill


class Block(Section):
    """A part of a message: text."""

    type: Literal["input_text", "output_text", "text"] = "input_text"
    """Texts alone can be judged."""
    text: Template
    """The text, with places."""


class Turn(Section):
    """A message to the judge."""

    role: Literal["user", "assistant", "system", "developer"]
    """Whose message it is; `developer` is OpenAI's newer word for system."""
    content: Template | Block | list[Template | Block]
    """The text, with places such as {{sample.output_text}}."""
    type: Literal["message"] = "message"
    """As OpenAI writes it."""


class SamplingParams(Section):
    """How the judge writes; what is left out is left to the judge, and a local one is greedy."""

    seed: int | None = None
    """Of what is drawn."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Share of the probability that tokens are drawn from."""
    temperature: float | None = Field(None, ge=0, le=2)
    """0 takes the most probable token each time."""
    max_completions_tokens: int | None = Field(None, ge=1)
    """Longest answer; of a local judge 512 when left out."""
    reasoning_effort: str | None = None
    """How much a model that reasons may reason; an endpoint's own matter."""

    def drawing(self) -> Drawing:
        """The same, as a judge is told."""
        return Drawing(
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            max_tokens=self.max_completions_tokens,
            effort=self.reasoning_effort,
        )


class JudgeSection(Section):
    """A judge and what it is asked."""

    model: str
    """With `endpoint` the name that it has there; else `base` (the base of the run, its adapter
    off), `starter`, a model folder or a hub id."""
    input: list[Turn] = Field(min_length=1)
    """The conversation that the judge answers."""
    sampling_params: SamplingParams = SamplingParams()
    """How it writes."""
    endpoint: str = ""
    """Address of an OpenAI-compatible service, such as http://localhost:8000/v1."""
    key_variable: str = ""
    """Environment variable that holds its key; empty sends none."""
    timeout_seconds: float = Field(120.0, gt=0)
    """For one answer of an endpoint."""
    parallel: int = Field(8, ge=1, le=256)
    """Questions to an endpoint at a time."""

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        parts = urlsplit(address)
        if address and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("an address such as http://localhost:8000/v1")
        if parts.username or parts.password:
            raise ValueError("an address without a password, which key_variable is for")
        return address.rstrip("/")

    @field_validator("model")
    @classmethod
    def _has_a_name(cls, model: str) -> str:
        if not model.strip():
            raise ValueError("the name of a model")
        return model

    def question(self, form: str, output: str, reference: str, row: Mapping[str, Any]) -> Messages:
        """The conversation about one output, with the form of the answer said at its end.

        Raises:
            RecipeError: A place leads nowhere.
            ValueError: `sample.output_json` of an output that is not JSON.
        """
        turns = [
            {"role": _role(turn), "content": fill(text_of(turn), output, reference, row)}
            for turn in self.input
        ]
        turns[-1]["content"] += f"\n\n{form}"
        return turns


def text_of(turn: Turn) -> str:
    """The template of a message: its blocks, a line each."""
    blocks = turn.content if isinstance(turn.content, list) else [turn.content]
    return "\n".join(block if isinstance(block, str) else block.text for block in blocks)


def _role(turn: Turn) -> str:
    return "system" if turn.role == "developer" else turn.role
