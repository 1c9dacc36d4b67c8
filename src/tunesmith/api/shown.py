"""What an export is compared on: the run's own held-out rows, or a few general questions."""

import json
from itertools import islice

from transformers import PreTrainedTokenizerBase

from tunesmith.data.chat_text import program
from tunesmith.data.encoded import Encoded
from tunesmith.data.reading import read_source
from tunesmith.data.row import Row, RowProblem, ignore
from tunesmith.data.store import Encoder
from tunesmith.data.template import Renderer
from tunesmith.errors import DataError
from tunesmith.export.trained import Shown
from tunesmith.methods import base as methods
from tunesmith.recipe import Recipe
from tunesmith.runs.folder import RunFolder

PROMPTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three colours.",
    "What is 12 plus 30?",
)
"""Asked when the run has no rows of its own to show."""

NUM_PROMPTS = 4
NUM_ROWS = 16
"""Held-out rows whose loss is measured before and after."""

TEXTS = (
    "Hello, world! It's 12:30 — 1,234.5 kg.",
    "\tdef f(x):\n\n    return x  # naïve\r\n",
    "Grüße aus Köln, 你好世界, مرحبا, 🎉👩\u200d🔬",
)
"""Turned into ids beside the held-out rows: numbers, white space, scripts."""


def shown(folder: RunFolder, recipe: Recipe, renderer: Renderer) -> Shown:
    """Prompts, rows and texts to compare on.

    Args:
        folder: Of the run.
        recipe: Of the run.
        renderer: Of the run's tokenizer.
    """
    encoded = _heldout(recipe, renderer)
    rows = [(row.input_ids.tolist(), row.trained.tolist()) for row in encoded]
    tokenizer = renderer.tokenizer
    whole = [tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids, _ in rows]
    return Shown(_prompts(folder, encoded, tokenizer), rows, [*whole, *TEXTS])


def general(tokenizer: PreTrainedTokenizerBase) -> Shown:
    """What can be asked of any model."""
    return Shown([_ids(tokenizer, [], text) for text in PROMPTS], [], list(TEXTS))


def _heldout(recipe: Recipe, renderer: Renderer) -> list[Encoded]:
    """The first held-out rows; none where there are none, or their file is no longer there."""
    found: list[Encoded] = []
    encoder = methods.load(recipe.method.name).encoder(renderer, recipe.method)
    for source in recipe.data.eval_sources or ():
        try:
            rows = read_source(source, ignore, encoder.shapes)
            for row in islice(rows, NUM_ROWS - len(found)):
                found += _encoded(row, encoder)
        except DataError:
            continue  # they were read when the run began; the comparison can do without
    # What an encoder has kept of texts that it lays end to end.
    found += [_first(each) for each in getattr(encoder, "rest", list)()[:1]]
    return [each for each in found if len(each.input_ids) <= renderer.max_tokens]


def _encoded(row: Row, encoder: Encoder) -> list[Encoded]:
    """The first sequence of a row; none where it cannot be read, or is kept for a later one."""
    try:
        return [_first(each) for each in encoder.examples(row.content)[:1]]
    except RowProblem:
        return []


def _first(encoded: Encoded) -> Encoded:
    """The first sequence of an example."""
    stop = encoded.parts[0] if encoded.parts else len(encoded.input_ids)
    ids, trained = encoded.input_ids[:stop], encoded.trained[:stop]
    return Encoded(ids, trained, encoded.prompt_tokens, encoded.truncated)


def _prompts(
    folder: RunFolder, encoded: list[Encoded], tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """Prompts of the task, else of the held-out rows, else general ones."""
    samples = json.loads(folder.samples.read_text()) if folder.samples.is_file() else []
    # A row of which no token is trained is read as a whole.
    openings = [
        row.input_ids[: row.prompt_tokens if row.trained.any() else None].tolist()
        for row in encoded
        if row.prompt_tokens or not row.trained.any()
    ]
    asked = [row["prompt"] for row in samples]
    if openings and not asked:
        return openings[:NUM_PROMPTS]
    opening = _opening(folder)
    return [_ids(tokenizer, opening, text) for text in (asked or PROMPTS)[:NUM_PROMPTS]]


def _opening(folder: RunFolder) -> list[dict[str, str]]:
    """The system message that all rows of the run had, so that the model sees what it knows."""
    if not folder.report_json.is_file():
        return []
    report = json.loads(folder.report_json.read_text(encoding="utf-8"))
    system = report["data"].get("system")
    return [{"role": "system", "content": system}] if system else []


def _ids(tokenizer: PreTrainedTokenizerBase, opening: list[dict[str, str]], text: str) -> list[int]:
    if tokenizer.chat_template is None:
        return list(tokenizer(text)["input_ids"])
    messages = [*opening, {"role": "user", "content": text}]
    written = program(tokenizer).text(messages, opened=True)
    return list(tokenizer(written, add_special_tokens=False)["input_ids"])
