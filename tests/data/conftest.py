"""What the tests of the data room share: the byte tokenizer, renderers, files written in a line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tunesmith.data.template import Renderer
from tunesmith.testing.tiny import IM_END, byte_tokenizer

MakeRenderer = Callable[..., Renderer]
WriteRows = Callable[..., Path]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture
def make_renderer() -> MakeRenderer:
    """Makes a renderer of a new byte tokenizer, with another template if one is given."""

    def make(template: str | None = "own", **options: object) -> Renderer:
        tokenizer = byte_tokenizer()
        if template != "own":
            tokenizer.chat_template = template
        return Renderer(tokenizer, frozenset({IM_END}), **options)

    return make


@pytest.fixture
def renderer(make_renderer: MakeRenderer) -> Renderer:
    return make_renderer()


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """Writes dicts as JSONL, or text and bytes as they are."""

    def write(content: list[dict] | str | bytes, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write
