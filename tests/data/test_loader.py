"""The loader holds no place: any step, in any order, is the same batches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tunesmith.data.example import Batch, digest
from tunesmith.data.loader import Loader
from tunesmith.data.order import Schedule
from tunesmith.data.planner import Layout
from tunesmith.data.prepared import Prepared
from tunesmith.data.section import Source
from tunesmith.data.store import PrepareOptions, prepare
from tunesmith.data.template import Renderer


@pytest.fixture
def prepared(renderer: Renderer, write_rows, tmp_path: Path) -> Prepared:
    rows = [{"prompt": "q" * (i % 7), "completion": "a" * (1 + i * 13 % 40)} for i in range(23)]
    source = Source(path=str(write_rows(rows)))
    return prepare([source], renderer, PrepareOptions(max_tokens=500), tmp_path / "cache")


@pytest.fixture
def make_loader(prepared: Prepared):
    made: list[Loader] = []

    def make(packed: bool = True, best_tokens: int | None = None, **options: object) -> Loader:
        plan = {"batch_tokens": 150, "accumulate": 2, "epochs": 2.0, "seed": 7} | options
        schedule = Schedule(prepared.lengths, prepared.rows_per_file, prepared.weights, **plan)
        layout = Layout(packed, plan.get("batch_rows"), plan.get("batch_tokens"), best_tokens)
        made.append(Loader(prepared, schedule, layout, pad_id=258))
        return made[-1]

    yield make
    for loader in made:
        loader.close()


def content(batches: list[Batch]) -> list[tuple]:
    return [(batch.input_ids.tolist(), batch.places.tolist(), batch.rows) for batch in batches]


def test_a_digest_tells_the_steps_apart_but_not_the_folder(make_loader) -> None:
    loader = make_loader()
    steps = [loader.step(step) for step in range(loader.num_steps)]
    digests = [digest(batches) for batches in steps]
    assert len(set(digests)) == len(steps) > 4
    assert [digest(make_loader().step(step)) for step in range(loader.num_steps)] == digests
    first = steps[0][0]
    rows = first.rows
    moved = replace(first, rows=tuple((f"/other/{Path(source).name}", n) for source, n in rows))
    assert digest([moved, *steps[0][1:]]) == digests[0]
    for changed in (
        replace(first, rows=((rows[0][0], rows[0][1] + 1), *rows[1:])),
        replace(first, input_ids=first.input_ids + 1),
        replace(first, targets=first.targets + 1),
        replace(first, places=first.places - 1),
    ):
        assert digest([changed, *steps[0][1:]]) != digests[0]
    assert digest(steps[0][::-1]) != digests[0] or len(steps[0]) == 1


def test_seeking_gives_the_batches_of_walking(make_loader) -> None:
    loader = make_loader()
    walked = [content(loader.step(step)) for step in range(loader.num_steps)]
    for step in (0, loader.num_steps - 1, 3, 3, 2):
        assert content(loader.step(step)) == walked[step]
        assert content(make_loader().step(step)) == walked[step]


def test_every_row_is_served_once_an_epoch(make_loader, prepared: Prepared) -> None:
    loader = make_loader(epochs=1.0)
    rows = [
        row
        for step in range(loader.num_steps)
        for batch in loader.step(step)
        for _, row in batch.rows
    ]
    assert sorted(rows) == list(range(1, 24))


@pytest.mark.parametrize("packed", [True, False])
def test_batches_hold_the_rows_that_they_name(make_loader, prepared, packed: bool) -> None:
    batch = make_loader(packed).step(0)[0]
    assert batch.packed == packed
    flat = batch.input_ids[0] if packed else batch.input_ids[batch.attention_mask.bool()]
    expected = [prepared[row - 1].input_ids for _, row in batch.rows]
    assert flat.tolist() == np.concatenate(expected).tolist()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("best_tokens", [None, 60])
@pytest.mark.parametrize("limit", [{}, {"batch_tokens": None, "batch_rows": 3, "accumulate": 4}])
def test_the_worst_batch_is_one_that_is_planned_and_none_is_larger(
    make_loader, packed: bool, best_tokens: int | None, limit: dict
) -> None:
    loader = make_loader(packed, best_tokens, **limit)
    planned = [batch for step in range(loader.num_steps) for batch in loader.step(step)]
    worst = loader.worst()
    assert content([worst])[0] in [content([batch])[0] for batch in planned]
    # Rows are so short here that attention hardly counts: the most cells are the worst.
    assert worst.input_ids.numel() == max(batch.input_ids.numel() for batch in planned)


def test_long_rows_weigh_more_than_as_many_tokens_in_short_ones(renderer, write_rows, tmp_path):
    rows = [{"text": "a" * 9000}, *[{"text": "b" * 899}] * 10]
    options = PrepareOptions(max_tokens=10_000)
    source = Source(path=str(write_rows(rows)))
    prepared = prepare([source], renderer, options, tmp_path / "cache")
    schedule = Schedule(prepared.lengths, (11,), (1.0,), batch_tokens=9001, epochs=1.0)
    loader = Loader(prepared, schedule, Layout(True, max_tokens=9001), 258)
    assert loader.worst().lengths == (9001,)
    loader.close()


def test_the_epochs_done_after_a_step(make_loader) -> None:
    loader = make_loader(batch_tokens=None, batch_rows=5)
    assert loader.num_steps == 6
    done = [loader.epoch_after(step) for step in range(6)]
    assert done == pytest.approx([1 / 3, 2 / 3, 1.0, 4 / 3, 5 / 3, 2.0])


@pytest.mark.parametrize("step", [-1, 6])
def test_there_is_no_step_beyond_the_run(make_loader, step: int) -> None:
    with pytest.raises(IndexError, match=f"step {step} of 6"):
        make_loader(batch_tokens=None, batch_rows=5).step(step)
