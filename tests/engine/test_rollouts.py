"""Rollouts: how they are dealt out to steps, kept and told, without any model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.methods.drawn import batch_of, group
from tunesmith.adapters.base import Attached
from tunesmith.data.encoded import Encoded
from tunesmith.data.order import Schedule
from tunesmith.data.planner import Layout
from tunesmith.data.rollout import Lesson
from tunesmith.engine.rollouts.examples import example_of, figures_of, gathered, whole
from tunesmith.engine.rollouts.loader import Rollouts, Way
from tunesmith.engine.rollouts.shelf import Shelf
from tunesmith.engine.rollouts.start import Start
from tunesmith.engine.rollouts.told import telling
from tunesmith.errors import CheckpointError
from tunesmith.methods import grpo, rejection
from tunesmith.methods.base import LossSum
from tunesmith.testing.tiny import tiny_model

ROWS, ANSWERS, LONGEST = 12, 2, 4


class Rows:
    """Prompts of 2 to 5 tokens, each with an answer of one."""

    def __init__(self) -> None:
        self.prompt_tokens = np.array([2 + i % 4 for i in range(ROWS)], dtype=np.int32)

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> Encoded:
        number = int(self.prompt_tokens[index])
        ids = np.arange(10, 11 + number, dtype=np.int32)
        return Encoded(ids, np.arange(number + 1) == number, number, False)

    def place(self, index: int) -> tuple[str, int]:
        return "rows.jsonl", index + 1


class Drawing:
    """Draws answers that say which rollout, round and row they are of, and remembers the calls.

    Attributes:
        equal: Rows whose two answers get the same reward.
    """

    def __init__(self, equal: frozenset[int] = frozenset()) -> None:
        self.calls: list[tuple[tuple[int, int], list[int]]] = []
        self.equal = equal

    def __call__(self, prompts, place):
        self.calls.append((place, [one.example for one in prompts]))
        return [self._answered(one, place) for one in prompts]

    def _answered(self, one, place):
        number = 100 + 50 * place[0] + len(self.calls) + one.example
        answers = tuple(np.full(1 + i, number, dtype=np.int32) for i in range(ANSWERS))
        rewards = np.float32([0.5, 0.5] if one.example in self.equal else [0.0, 1.0])
        tokens = {"sampler": np.linspace(-1, -0.1, 3, dtype=np.float32)}
        return replace(
            one,
            answers=answers,
            stopped=np.array([True] * ANSWERS),
            rewards=rewards,
            by_token=tokens,
            texts=("a", "b"),
        )


def _loader(tmp_path, drawing=None, packed=True, rows=3, method=grpo, steps=8, **keys):
    config = method.Config(num_answers=ANSWERS, max_new_tokens=LONGEST, **keys)
    prepared = Rows()
    schedule = Schedule(prepared.prompt_tokens, (ROWS,), (1.0,), 7, batch_rows=rows, epochs=2)
    made = Rollouts(prepared, schedule, Layout(packed, rows), 0, Way(method, config, 7, steps))
    made.draw, made.shelf = drawing or Drawing(), Shelf(tmp_path / "rollouts")
    return made


def _rows(batches):
    return sorted({row - 1 for batch in batches for _, row in batch.rows})


def _bytes(batches):
    return [
        [t.numpy().tobytes() for t in (b.input_ids, b.places, b.targets, *b.numbers.values())]
        for b in batches
    ]


def test_prompts_are_those_of_the_plan_and_are_answered_once_a_step(tmp_path):
    drawing = Drawing()
    loader = _loader(tmp_path, drawing)
    for step in range(4):
        batches = loader.step(step)
        assert _rows(batches) == sorted(loader.planned(step)) == sorted(loader.examples(step))
        assert sum(len(batch.rows) for batch in batches) == 3 * ANSWERS
    assert [place for place, _ in drawing.calls] == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_a_step_taken_again_is_drawn_again_but_its_updates_are_not(tmp_path):
    drawing = Drawing()
    loader = _loader(tmp_path, drawing, updates=2)
    first, second = _bytes(loader.step(0)), _bytes(loader.step(1))
    assert first == second
    assert len(drawing.calls) == 1
    assert _bytes(loader.step(0)) != first
    assert len(drawing.calls) == 2


def test_a_resumed_run_goes_on_with_what_is_on_the_shelf(tmp_path):
    loader = _loader(tmp_path, updates=2)
    loader.step(2)
    expected = _bytes(loader.step(3))
    drawing = Drawing()
    resumed = _loader(tmp_path, drawing, updates=2)
    assert _bytes(resumed.step(3)) == expected
    assert drawing.calls == []
    assert resumed.examples(3) == loader.examples(3)


def test_without_its_rollout_a_run_cannot_go_on(tmp_path):
    with pytest.raises(CheckpointError, match="no answers of step 3 that can be read"):
        _loader(tmp_path, updates=2).step(3)
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / "step-3.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="no answers of step 3"):
        _loader(tmp_path, updates=2).step(3)


def test_minibatches_deal_all_prompts_out_in_each_pass_in_an_order_of_its_own(tmp_path):
    loader = _loader(tmp_path, rows=6, minibatches=3, updates=2)
    parts = [_rows(loader.step(step)) for step in range(6)]
    assert all(len(part) == 2 for part in parts)
    for again in (parts[:3], parts[3:]):
        assert sorted(row for part in again for row in part) == sorted(loader.planned(0))
    assert parts[:3] != parts[3:]
    assert [sorted(loader.examples(step)) for step in range(6)] == parts


def test_rows_that_are_left_out_are_neither_asked_nor_trained(tmp_path):
    drawing = Drawing()
    loader = _loader(tmp_path, drawing, updates=2)
    loader.step(0)
    gone = loader.planned(0)[1]
    loader.leave_out([gone])
    assert gone not in _rows(loader.step(1))
    assert gone not in _rows(loader.again(0))
    loader.step(0)
    assert gone not in drawing.calls[-1][1]


def test_groups_without_signal_are_left_out_and_others_asked_in_their_stead(tmp_path):
    plan = _loader(tmp_path).planned(0)
    drawing = Drawing(equal=frozenset(plan[:2]))
    loader = _loader(tmp_path, drawing, rounds=3)
    batches = loader.step(0)
    assert [place for place, _ in drawing.calls] == [(0, 0), (0, 1)]
    others = drawing.calls[1][1]
    assert len(others) == 2
    assert not set(others) & set(plan)
    assert _rows(batches) == sorted([plan[2], *others])
    # Five groups were drawn, and told of, two of them without signal; answers of all of them.
    told = telling(lambda batch: LossSum(torch.zeros(()), 1))
    figures = [told(batch).figures for batch in batches]
    assert sum(float(f["no_signal"][0]) for f in figures) == 2
    assert sum(f["no_signal"][1] for f in figures) == 5
    assert sum(float(f["reward"][0]) for f in figures) == 5.0
    assert sum(f["reward"][1] for f in figures) == 10


def test_a_step_that_teaches_nothing_has_no_batches_and_says_so(tmp_path):
    told = []
    loader = _loader(tmp_path, Drawing(equal=frozenset(range(ROWS))), rounds=1)
    loader.notice = told.append
    assert loader.step(0) == []
    assert told == ["step 1 has no answer to learn from, and changes nothing"]


def test_what_is_planned_is_the_worst_that_can_come(tmp_path):
    packed, padded = _loader(tmp_path), _loader(tmp_path, packed=False)
    # Three of the longest prompts, 5 tokens, are planned together nowhere: so count them.
    longest = max(sum(2 + i % 4 for i in packed.planned(step)) for step in range(8))
    assert packed.worst().num_tokens == longest + 3 * ANSWERS * LONGEST
    assert padded.worst().input_ids.shape[1] == 5 + LONGEST
    assert packed.num_steps == 8
    assert packed.survey(4).num_steps == 4
    numbers = packed.worst().numbers
    assert numbers["advantage"].shape == (3 * ANSWERS,)
    assert numbers["sampler"].shape == (3 * ANSWERS * LONGEST,)


def test_only_the_kept_answer_is_in_the_batch(tmp_path):
    (batch,) = _loader(tmp_path, method=rejection).step(0)
    assert batch.units == (1, 1, 1)
    assert batch.targets_per_row == (2, 2, 2)
    assert batch.numbers["sampler"].tolist() == pytest.approx([-0.55, -0.1] * 3)


def test_figures_of_a_group():
    one = group([1, 3], [0.25, 0.75], [True, False], sampler=[-1.0, -2.0, -2.0, -3.0])
    one = replace(one, scores={"short": np.float32([1, 0])}, ungraded=1)
    assert figures_of(one, whole(one)) == {
        "reward": (1.0, 2),
        "reward/short": (1.0, 2),
        "reward_deviation": (0.25, 1),
        "no_signal": (0.0, 1),
        "answer_tokens": (4.0, 2),
        "cut": (1.0, 2),
        "entropy": (8.0, 4),
        "ungraded": (1, 2),
    }


def test_answers_share_their_prompt_and_bring_their_numbers():
    one = group([1, 2, 1], [0, 1, 0], old=[-1.0, -2.0, -3.0, -4.0])
    lesson = Lesson(np.array([True, False, True]), {"advantage": np.float32([5, 6, 7])})
    batch = batch_of([one], [lesson])
    assert batch.lengths == (2, 1, 1)
    assert batch.prefixes == (None, 0, 0)
    assert batch.numbers["old"].tolist() == [-1.0, -4.0]
    assert batch.numbers["advantage"].tolist() == [5.0, 7.0]
    assert example_of(one, lesson).parts == (3, 3)


def test_the_shelf_gives_back_every_bit(tmp_path):
    numbers = {"sampler": [-1 / 3, -2 / 3, -0.1], "old": [-0.7, -1e-9, -30.0]}
    scores = {"s": np.float32([0.3, 1])}
    first = group([2, 1], [1 / 3, 0.1], [True, False], **numbers)
    second = group([1, 2], [0.0, 1.0], number=1, **numbers)
    groups = [
        replace(first, ungraded=1, asked="é\n", texts=("a", "b"), scores=scores),
        replace(second, asked="x", texts=("\u2028", "y"), scores=scores),
    ]
    shelf = Shelf(tmp_path)
    shelf.put(5, groups, grpo.lessons(groups, grpo.Config()))
    assert shelf.has(5)
    assert not shelf.has(6)
    for found, expected in zip(shelf.get(5), groups, strict=True):
        bare = {"asked": "", "texts": (), "by_token": {}}
        assert repr(replace(expected, **bare)) == repr(replace(found, **bare))
        assert found.by_token.keys() == expected.by_token.keys()
        for name, values in expected.by_token.items():
            assert found.by_token[name].tobytes() == values.tobytes()
    assert shelf.rows() == {5: (("rows.jsonl", 1), ("rows.jsonl", 2))}


def test_all_groups_left_out_leave_no_example():
    groups = [group([1, 1], [1.0, 1.0])]
    assert gathered(groups, grpo.lessons(groups, grpo.Config(rounds=1))) == [None]


@pytest.mark.parametrize("whole_model", [True, False])
def test_the_start_comes_back_and_goes(whole_model):
    model = tiny_model()
    trained = dict(model.named_parameters())
    attached = Attached(model, trained, model, None, {}, {})
    if not whole_model:
        attached = replace(attached, disabled=lambda: None, continued=True)
    start = Start(attached)
    before = {name: p.detach().clone() for name, p in trained.items()}
    with torch.no_grad():
        for parameter in trained.values():
            parameter += 1
    now = {name: p.detach().clone() for name, p in trained.items()}
    with start():
        assert all(torch.equal(trained[name], value) for name, value in before.items())
    assert all(torch.equal(trained[name], value) for name, value in now.items())


def test_an_adapter_is_switched_off_rather_than_copied():
    model, marks = tiny_model(), []
    attached = Attached(model, dict(model.named_parameters()), model, lambda: marks, {}, {})
    assert Start(attached)() is marks
