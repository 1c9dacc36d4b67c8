import sqlite3

import pytest

from tunesmith.errors import RecipeError
from tunesmith.evaluate import graders
from tunesmith.evaluate.graders.base import Answered
from tunesmith.evaluate.sandbox.run_query import is_ordered

SETUP = """
CREATE TABLE people (name TEXT, age INT, height REAL);
INSERT INTO people VALUES ('Ann', 30, 1.5), ('Bob', 25, 1.75), ('Cy', 25, NULL);
"""
RIGHT = "SELECT name, age FROM people"
LONG = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


def scores(queries, reference=RIGHT, setup=SETUP, **keys):
    spec = {"type": "sql_result", "setup": "{{item.setup}}", "timeout_seconds": 0.2, **keys}
    asked = [Answered(query, reference, {"setup": setup}) for query in queries]
    return graders.open(spec).score_all(asked)


@pytest.mark.parametrize(
    ("reference", "right", "wrong"),
    [
        (
            RIGHT,
            [
                RIGHT,
                f"{RIGHT};",
                f"```sql\n{RIGHT};\n```\nThis lists them.",
                "select name, age*1.0 from people order by name desc",
                "SELECT p.name, age FROM people p WHERE 1 = 1 -- all of them",
                "SELECT * FROM (SELECT name, age FROM people)",
            ],
            [
                "SELECT age, name FROM people",
                "SELECT name FROM people",
                "SELECT name, age FROM people WHERE age > 25",
                "SELECT name, age FROM people UNION ALL SELECT 'Ann', 30",
                "SELECT name, CAST(age AS TEXT) FROM people",
                "",
                "no SQL",
                f"{RIGHT}; {RIGHT}",
                "SELECT nothing FROM people",
                LONG,
                "DROP TABLE people",
                "DELETE FROM people",
                "INSERT INTO people VALUES ('Di', 1, 1)",
                "CREATE TABLE more (x)",
                "PRAGMA user_version = 3",
                "ATTACH DATABASE 'x.db' AS x",
                "VACUUM INTO 'x.db'",
                "SELECT load_extension('x')",
                "SELECT zeroblob(100000000), 1",
            ],
        ),
        (
            "SELECT name FROM people ORDER BY age DESC, name",
            ["SELECT name FROM people ORDER BY age DESC, name ASC"],
            ["SELECT name FROM people ORDER BY name DESC", "SELECT name FROM people ORDER BY age"],
        ),
        (
            "SELECT avg(height), count(height) FROM people",
            ["SELECT 1.625, 2", "SELECT 13.0 / 8, 2.0"],
            ["SELECT 1.6250001, 2", "SELECT NULL, 2"],
        ),
        ("SELECT name FROM people WHERE age > 90", ["SELECT 1 WHERE 0"], ["SELECT NULL"]),
    ],
    ids=["any order", "ordered", "numbers", "no rows"],
)
def test_the_rows_decide(reference, right, wrong):
    found = scores([*right, *wrong], reference)
    assert [each.failure for each in found] == [""] * len(found)
    assert [each.score for each in found] == [1.0] * len(right) + [0.0] * len(wrong)


def test_a_right_query_that_fails_is_a_failure():
    (found,) = scores([RIGHT], "SELECT nope FROM people")
    assert found.failure == "OperationalError: no such column: nope"


def test_a_setup_reaches_no_file(tmp_path):
    (found,) = scores([RIGHT], setup=f"ATTACH DATABASE '{tmp_path}/x.db' AS x;")
    assert "not authorized" in found.failure or "unable to open" in found.failure
    assert list(tmp_path.iterdir()) == []


def test_a_database_file_is_read_and_never_changed(tmp_path):
    path = tmp_path / "a ?#%.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(SETUP)
    connection.close()
    before = path.read_bytes()
    found = scores([RIGHT, "DELETE FROM people"], setup="", database=str(path))
    assert [(each.score, each.failure) for each in found] == [(1.0, ""), (0.0, "")]
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_database_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(RecipeError, match="expected a file of SQLite"):
        graders.build({"type": "sql_result", "database": str(tmp_path / "no.db")})


def test_a_row_without_a_right_query_is_an_error():
    with pytest.raises(ValueError, match="no query to compare with"):
        graders.build({"type": "sql_result", "reference": "{{item.a}}"}).check("", {"a": " "})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT a FROM t ORDER BY a", True), ("select a from t order\n by a limit 3", True),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a LIMIT 3)", False),
        ("SELECT 'order by' FROM t", False), ('SELECT a AS "order by" FROM t', False),
        ("SELECT a FROM t -- order by a", False), ("SELECT a FROM t /* order by */", False),
        ("SELECT f(a) OVER (PARTITION BY b ORDER BY c) FROM t", False),
        ("SELECT a FROM t WHERE b IN (SELECT b FROM u ORDER BY b) ORDER BY (a)", True),
    ],
)  # fmt: skip
def test_order_counts_where_the_query_has_one(query, expected):
    assert is_ordered(query) is expected
