"""Writes examples to an Arrow IPC file, a batch at a time, and makes it visible when whole."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from tunesmith.data.encoded import Encoded
from tunesmith.data.prepared import SCHEMA, Counts, facts_of
from tunesmith.errors import MachineError

T = TypeVar("T")

FLOATS = pa.list_(pa.float32())
BATCH_ROWS = 1024
BATCH_TOKENS = 2**20
"""A batch is written when it has this many rows or tokens: so much is held in memory."""


class ExampleWriter:
    """A context that removes what it wrote unless `commit` was reached.

    Args:
        path: The Arrow file; the facts go beside it, ending in .json.

    Raises:
        MachineError: The folder or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.stem}.{os.getpid()}.part")
        self._rows: list[tuple[int, int, bool, Encoded]] = []
        self._tokens = 0
        self._numbers: list[str] = []
        self._weighted = False
        self._guard(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        self._writer = self._guard(lambda: pa.ipc.new_file(str(self._part), SCHEMA))

    def __enter__(self) -> "ExampleWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._part.exists():
            self._part.unlink()

    def add(self, source: int, row: int, encoded: Encoded, begins: bool = True) -> None:
        """Adds an example.

        Args:
            source: Index of its file.
            row: Number of its row.
            encoded: Its tokens.
            begins: False for another phrasing of the row that the example before it is of.
        """
        self._numbers = sorted(encoded.numbers)
        self._weighted |= len(encoded.weights) > 0
        self._rows.append((source, row, begins, encoded))
        self._tokens += len(encoded.input_ids)
        if len(self._rows) >= BATCH_ROWS or self._tokens >= BATCH_TOKENS:
            self._flush()

    def commit(self, counts: Counts, problems: list[tuple[str, int, str]]) -> None:
        """Writes what is left, the facts, and gives both their names, the facts last."""
        self._flush()
        self._guard(self._writer.close)
        facts = facts_of(counts, problems, self._numbers, self._weighted, self._part)
        beside = self._part.with_suffix(".facts")
        try:
            self._guard(lambda: beside.write_text(facts, encoding="utf-8"))
            self._guard(lambda: self._part.replace(self._path))
            self._guard(lambda: beside.replace(self._path.with_suffix(".json")))
        finally:
            beside.unlink(missing_ok=True)

    def _flush(self) -> None:
        """Writes the examples held as one batch."""
        if self._rows:
            batch = _batch(self._rows)
            self._guard(lambda: self._writer.write_batch(batch))
        self._rows, self._tokens = [], 0

    def _guard(self, action: Callable[[], T]) -> T:
        """Does what writes; a full or faulty disk is the machine's failure."""
        try:
            return action()
        except OSError as error:
            folder = next(f for f in self._path.parents if f.exists())
            free = shutil.disk_usage(folder).free // 2**20
            raise MachineError(
                str(self._path.parent),
                got=f"{error.strerror or error} ({free} MiB free)",
                expected="room for the prepared examples",
                hint="free space, or set TUNESMITH_HOME to a larger disk",
            ) from error


def _batch(rows: list[tuple[int, int, bool, Encoded]]) -> pa.RecordBatch:
    """The examples as Arrow columns."""
    encoded = [row[3] for row in rows]
    offsets = pa.array(np.cumsum([0, *(len(one.input_ids) for one in encoded)]), pa.int32())
    ids = pa.array(np.concatenate([one.input_ids for one in encoded]), pa.int32())
    trained = pa.array(np.concatenate([one.trained for one in encoded]), pa.bool_())
    columns = [
        pa.ListArray.from_arrays(offsets, ids),
        pa.ListArray.from_arrays(offsets, trained),
        pa.array([one.prompt_tokens for one in encoded], pa.int32()),
        pa.array([row[0] for row in rows], pa.int32()),
        pa.array([row[1] for row in rows], pa.int32()),
        pa.array([one.truncated for one in encoded], pa.bool_()),
        pa.array([int(one.trained.sum()) for one in encoded], pa.int32()),
        pa.array([_fingerprint(one.input_ids) for one in encoded], pa.int64()),
        pa.array([one.parts for one in encoded], pa.list_(pa.int32())),
        pa.array([[v for _, v in sorted(one.numbers.items())] for one in encoded], FLOATS),
        pa.array([_weights(one) for one in encoded], FLOATS),
        pa.array([row[2] for row in rows], pa.bool_()),
        pa.array([one.open_start for one in encoded], pa.bool_()),
        pa.array([one.open_end for one in encoded], pa.bool_()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _weights(encoded: Encoded) -> np.ndarray:
    """Of the trained tokens; empty where each counts 1."""
    return encoded.weights[encoded.trained] if len(encoded.weights) else encoded.weights


def _fingerprint(ids: np.ndarray) -> int:
    """64 bits of BLAKE2b over the ids; two different rows agree by chance in no data set."""
    digest = hashlib.blake2b(ids.tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
