"""General rows to replay against forgetting: a file of the user's, or answers of the base itself.

What a model says to general prompts, trained on again, keeps it near what it said: pseudo-rehearsal
(Robins 1995, doi:10.1080/09540099550039318; for language models LAMOL, arXiv:1909.03329). In
expectation over answers drawn at temperature 1, their loss is the cross entropy from the base, so
its gradient is that of KL(base || now).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

import torch

from tunesmith.api.resolve import BASE, device
from tunesmith.config.home import home
from tunesmith.data.row import Conversation, Message
from tunesmith.data.section import Replay, Source
from tunesmith.data.store import Encoder
from tunesmith.data.template import Renderer
from tunesmith.errors import DataError, RecipeError
from tunesmith.generate.answers import answers
from tunesmith.generate.options import GenerateOptions, Sampling
from tunesmith.models.base import Base
from tunesmith.recipe import Recipe
from tunesmith.runs.durable import write_durably
from tunesmith.runs.events import Event, Phase

NAME = "replay"
"""What figures of the rows are called."""
PROMPTS = "replay_prompts.jsonl"
"""None of them is asked by the probe of forgetting."""
BATCH_ROWS = 64


@dataclass(frozen=True, slots=True)
class Replayed:
    """The rows that are replayed.

    Attributes:
        share: Of the rows of every step.
        rows: How many there are; they follow all others.
        path: Of their file.
    """

    share: float
    rows: int
    path: str


def replay_source(
    recipe: Recipe, base: Base, renderer: Renderer, encoder: Encoder, tell: Callable[[Event], None]
) -> Source | None:
    """The file to replay; where it is to come from the base, made if it is not kept already.

    Must be called before anything is trained.

    Raises:
        RecipeError: Answers of the base, for a method that reads no prompts and completions.
        DataError: The base ended none of its answers.
    """
    section = recipe.data.replay
    if section is None:
        return None
    if section.from_ != BASE:
        return Source(path=section.from_, name=NAME)
    if "completion" not in encoder.shapes:
        raise RecipeError(
            "data.replay.from",
            got=f"base, with method.name: {recipe.method.name}",
            expected="a data file: that method reads no prompts and completions",
        )
    path = home() / NAME / f"{_key(recipe, base, renderer)}.jsonl"
    if not path.is_file():
        tell(Phase("asking the base general questions, to replay its answers"))
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = _answers(section, base, renderer, recipe.train.seed)
        write_durably(path, "".join(json.dumps(row) + "\n" for row in lines).encode())
    return Source(path=str(path), name=NAME, format="completion")


def prompts() -> list[str]:
    """The general prompts, kinds taking turns."""
    lines = files(__package__).joinpath(PROMPTS).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines]


def _answers(section: Replay, base: Base, renderer: Renderer, seed: int) -> list[dict[str, str]]:
    """Rows of prompt and completion: the answers that came to an end, as many as are wanted."""
    asked = prompts()
    times = -(-section.answers // len(asked))
    pad = renderer.tokenizer.pad_token_id or 0
    options = GenerateOptions(section.max_new_tokens, renderer.stop_ids, pad, BATCH_ROWS)
    ids = [renderer.prompt(_conversation(text)) for text in asked]
    drawn = answers(base.model, ids, options, Sampling(1.0, 1.0, seed), times)
    rows = []
    for number in range(times):
        for text, each in zip(asked, drawn, strict=True):
            said = renderer.tokenizer.decode(each[number].tokens, skip_special_tokens=True)
            if each[number].stopped and said.strip():
                rows.append({"prompt": text, "completion": said})
    if not rows:
        raise DataError(
            "data.replay.from",
            got=f"a base that ended none of its answers within {section.max_new_tokens} tokens",
            expected="answers that end",
            hint="raise data.replay.max_new_tokens, or replay a file of general rows",
        )
    return rows[: section.answers]


def _conversation(text: str) -> Conversation:
    # Of kind `completion`, so that a base without a chat template can be asked as well.
    return Conversation((Message("user", text),), kind="completion")


def _key(recipe: Recipe, base: Base, renderer: Renderer) -> str:
    """SHA-256 over all that decides the answers."""
    section = recipe.data.replay
    parts = {
        "base": base.source.sha256,
        "model": recipe.model.model_dump(mode="json", exclude={"base", "revision"}),
        "weights": str(base.model.dtype),
        "stop": sorted(renderer.stop_ids),
        "asked": [section.answers, section.max_new_tokens, recipe.train.seed, prompts()],
        "machine": [str(device()), torch.get_num_threads(), torch.__version__],
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
