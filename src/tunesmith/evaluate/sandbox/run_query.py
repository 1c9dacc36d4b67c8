"""A grader's source, run inside the sandbox: whether two SQL queries give the same rows.

`sample` is {"query"}; `item` is {"reference", "setup", "database", "seconds"}: the right query, SQL
that makes the tables, or a database file that is only read, and the time of a query on a clock.
"""

import re
import sqlite3
import time
from collections import Counter

MAX_ROWS = 100_000
MAX_TEXT_BYTES = 2**20
"""Of one value or query."""
STEPS = 10_000
"""Of SQLite's machine between two looks at the clock."""
READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
BEYOND = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH}


def grade(sample, item):
    """1 for the same rows, in the same order where the right query has an ORDER BY; else 0.

    Raises where the right query itself fails; another that fails is a wrong answer.
    """
    expected = _rows(item["reference"], item)
    try:
        got = _rows(sample["query"], item)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError):
        return 0.0
    if is_ordered(item["reference"]):
        return float(got == expected)
    return float(Counter(got) == Counter(expected))


def is_ordered(query):
    """Whether a query has an ORDER BY that is not inside parentheses."""
    text = re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|\[[^\]]*\]", "''", query)
    text = re.sub(r"--[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)
    while (flat := re.sub(r"\([^()]*\)", " ", text)) != text:
        text = flat
    return re.search(r"\border\s+by\b", text, re.IGNORECASE) is not None


def _rows(query, item):
    connection = _open(item)
    try:
        connection.set_authorizer(lambda what, *rest: _allowed(what in READING, rest))
        end = time.monotonic() + item["seconds"]
        connection.set_progress_handler(lambda: time.monotonic() > end, STEPS)
        cursor = connection.execute(query)
        if cursor.description is None:
            raise ValueError("no query")
        rows = cursor.fetchmany(MAX_ROWS + 1)
        if len(rows) > MAX_ROWS:
            raise ValueError(f"more than {MAX_ROWS} rows")
        return [tuple(map(_comparable, row)) for row in rows]
    finally:
        connection.close()


def _open(item):
    if item["database"]:
        path = item["database"].replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    else:
        connection = sqlite3.connect(":memory:")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_TEXT_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.execute("PRAGMA temp_store = MEMORY")
    if item["setup"]:
        connection.set_authorizer(lambda what, *rest: _allowed(what not in BEYOND, rest))
        connection.executescript(item["setup"])
    return connection


def _allowed(allowed, rest):
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _comparable(value):
    """A value that equals another where SQL's results would be called the same: 1 is 1.0."""
    if isinstance(value, int | float):
        return ("number", float(f"{float(value):.9g}"))
    return (type(value).__name__, value)
