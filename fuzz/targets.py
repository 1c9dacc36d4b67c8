"""What is fuzzed: each target takes bytes and ends, or raises what a user would be told.

Anything else that it raises is a finding, and so is more than MAX_SECONDS of processor time.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunesmith.data.reading import read_file
from tunesmith.data.row import Conversation, Message, RowProblem
from tunesmith.errors import TunesmithError

MAX_SECONDS = 2.0
MAX_TOKENS = 4096
MEMORY = Path("/dev/shm")

CONVERSATION = Conversation(
    (
        Message("system", "s"),
        Message("user", "a question"),
        Message("assistant", "an answer"),
        Message("user", "more"),
        Message("assistant", "the last answer"),
    )
)


def jsonl(data: bytes) -> None:
    """The reader of JSONL files, up to rows of a shape; bad rows are passed over."""
    with _file(data, "rows.jsonl") as path:
        list(read_file(path, on_bad=lambda source, number, problem: None))


def json_array(data: bytes) -> None:
    """The reader of JSON arrays, which goes through a file piece by piece."""
    with _file(data, "rows.json") as path:
        list(read_file(path, on_bad=lambda source, number, problem: None))


def template(data: bytes) -> None:
    """A chat template of somebody else's, rendered and held against the token contract."""
    from tunesmith.data.template import Renderer
    from tunesmith.testing.tiny import byte_tokenizer

    tokenizer = byte_tokenizer()
    tokenizer.chat_template = data.decode("utf-8", "replace")
    Renderer(tokenizer, frozenset([tokenizer.eos_token_id]), max_tokens=MAX_TOKENS).encode(
        CONVERSATION
    )


def safetensors_header(data: bytes) -> None:
    """The check of a safetensors header before any library reads the file."""
    from tunesmith.models.safetensors_header import check_safetensors_header

    with _file(data, "model.safetensors") as path:
        check_safetensors_header(path)


def gguf_header(data: bytes) -> None:
    """The check of a GGUF header before any library reads the file."""
    from tunesmith.models.gguf_header import check_gguf_header

    with _file(data, "model.gguf") as path:
        check_gguf_header(path)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (jsonl, json_array, template, safetensors_header, gguf_header)
}


def warm(name: str, data: bytes) -> None:
    """Call a target once, so that no later call is slow for what it imports."""
    with suppress(TunesmithError, RowProblem):
        TARGETS[name](data)


def strike(target: Callable[[bytes], None], data: bytes) -> None:
    """Give `data` to a target; what it may raise is swallowed.

    Raises:
        Exception: A finding.
    """
    begin = time.process_time()
    with suppress(TunesmithError, RowProblem):
        target(data)
    seconds = time.process_time() - begin
    if seconds > MAX_SECONDS:
        raise AssertionError(f"{target.__name__} took {seconds:.1f} s for {len(data)} bytes")


@contextmanager
def _file(data: bytes, name: str) -> Iterator[Path]:
    """A file with these bytes, in memory where the system has such a folder."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path
