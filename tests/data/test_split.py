"""A share held out by each row alone."""

from pathlib import Path

import pytest

from tunesmith.config.check import check
from tunesmith.data.section import DataSection, Source
from tunesmith.data.split import Part, place
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.errors import DataError, RecipeError


def _rows(numbers: range) -> list[dict]:
    return [{"prompt": f"q{n}", "completion": "a"} for n in numbers]


@pytest.fixture
def split(write_rows, make_renderer, tmp_path: Path):
    """Row numbers of both sides of a file of so many rows."""

    def make(numbers: range, share: float = 0.2) -> list[set[int]]:
        sources = [Source(path=str(write_rows(_rows(numbers), "all.jsonl")))]
        sides = []
        for heldout in (False, True):
            options = PrepareOptions(2048, part=Part(share, heldout, 1))
            prepared = prepare(sources, make_renderer(), options, tmp_path / "cache")
            sides.append(set(prepared.row_numbers.tolist()))
        return sides

    return make


def test_every_row_is_on_one_side_and_the_share_is_about_right(split) -> None:
    train, held = split(range(400))
    assert not train & held
    assert len(train | held) == 400
    assert 50 < len(held) < 110  # 80 expected, 8 the standard deviation.


def test_rows_that_come_move_no_other(split) -> None:
    _, few = split(range(100))
    _, more = split(range(300))
    assert few == {number for number in more if number <= 100}


def test_equal_rows_are_on_one_side_whatever_the_order_of_their_keys() -> None:
    assert place({"a": 1, "b": "ü"}) == place({"b": "ü", "a": 1})
    assert place({"a": 1}) != place({"a": 2})


def test_a_side_without_rows_is_an_error(split) -> None:
    with pytest.raises(DataError, match=r"data\.eval: got no row held out, at a share of 0\.001"):
        split(range(5), 0.001)


def test_bad_rows_are_counted_once(write_rows, make_renderer, tmp_path: Path) -> None:
    rows = [*_rows(range(40)), {"prompt": "q"}]
    sources = [Source(path=str(write_rows(rows)), format="completion")]
    counts = []
    for heldout in (False, True):
        options = PrepareOptions(2048, on_bad_row="skip", part=Part(0.3, heldout, 1))
        counts.append(prepare(sources, make_renderer(), options, tmp_path / "c").counts.skipped)
    assert counts == [1, 0]


def test_only_the_first_files_are_split(write_rows, make_renderer, tmp_path: Path) -> None:
    sources = [
        Source(path=str(write_rows(_rows(range(40)), "a.jsonl"))),
        Source(path=str(write_rows(_rows(range(40)), "b.jsonl"))),
    ]
    options = PrepareOptions(2048, part=Part(0.3, False, 1))
    prepared = prepare(sources, make_renderer(), options, tmp_path / "c")
    assert prepared.rows_per_file[0] < 40
    assert prepared.rows_per_file[1] == 40


@pytest.mark.parametrize("value", [0.05, {"share": 0.05}])
def test_a_share_is_said_in_two_ways(value: object) -> None:
    section = DataSection(train="a.jsonl", eval=value)
    assert section.eval_share == 0.05
    assert section.eval_sources == ()


@pytest.mark.parametrize("value", [0, 1, 1.5, -0.1, True])
def test_a_share_beyond_its_bounds_is_refused(value: object) -> None:
    with pytest.raises(RecipeError, match="a share between 0 and 1"):
        check(DataSection, {"train": "a.jsonl", "eval": value}, "r.yaml", "data")
