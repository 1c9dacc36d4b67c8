"""The comparison of adapters: rows apart, several references, the choice of a rate."""

from pathlib import Path

import pytest

from benchmarks import e2e, methods, recipes
from benchmarks.methods import Figures, chosen, compare, with_defaults
from benchmarks.methods_table import plot, table


@pytest.fixture
def release(tmp_path: Path) -> Path:
    lines = [f"name[R{i}],Text {i} {way}." for i in range(120) for way in ("a", "b")]
    for name in (e2e.TRAIN, e2e.TEST):
        (tmp_path / name).write_text("\n".join(["mr,ref", *lines]) + "\n", encoding="utf-8")
    return tmp_path


def test_no_meaning_is_both_trained_on_and_held_out(release, tmp_path):
    rows = e2e.prepare(release, tmp_path / "out", 10)
    train, heldout, test = (
        p.read_text().splitlines() for p in (rows.train, rows.heldout, rows.test)
    )
    assert (len(train), len(heldout), len(test)) == (140, 100, 10)
    assert not {line.split('", "')[0] for line in train} & {x.split('", "')[0] for x in heldout}
    assert rows.references[0] == ["Text 0 a.", "Text 0 b."]


def test_any_reference_will_do():
    references = [["the cat sat on a mat", "a dog lay there"], ["it rains today in Rome"]]
    outputs = ["a dog lay there", "it rains today in Rome"]
    assert e2e.rouge_l(outputs, references) == pytest.approx(100)
    assert e2e.bleu(outputs, references) == pytest.approx(100)
    assert e2e.rouge_l(["a dog sat there", outputs[1]], references) == pytest.approx(87.5)


class Scripted:
    """Runs whose held-out loss is least at one rate."""

    def __init__(self, best: float) -> None:
        self.best, self.asked = best, []

    def run(self, adapter: str, rate: float, seed: int) -> Figures:
        self.asked.append((rate, seed))
        loss = abs(rate - self.best)
        return Figures(adapter, rate, seed, 10, 0.1, loss, 30.0 + seed, 50.0, 0.1, 900.0, 1.0, 2.0)


@pytest.mark.parametrize(("factor", "num_runs"), [(1.0, 4), (3.0, 5), (1 / 9, 5)])
def test_a_best_rate_at_the_edge_is_looked_beyond(factor, num_runs):
    usual = methods.adapters.load("lora").LEARNING_RATE
    lab = Scripted(usual * factor)
    runs = compare(lab, "lora", [0, 1])
    assert len(runs) == num_runs
    assert [run.seed for run in chosen(runs)] == [0, 1]
    assert {run.rate for run in chosen(runs)} == {usual * factor}


def test_the_table_has_a_row_for_each_adapter(tmp_path):
    found = {name: chosen(compare(Scripted(1.0), name, [0, 1])) for name in ("full", "lora")}
    assert "30.5 (30.0 to 31.0)" in table(found)
    assert table(found).count("\n") == 4
    plot(found, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000
    assert {"full", "lora"} <= set(with_defaults())


def test_recipes_are_cut_to_a_few_steps_and_rows(tmp_path):
    root = Path(__file__).parents[2]
    short = recipes.shortened(root / "recipes" / "quickstart.yaml", 2, tmp_path)
    assert (short.train.steps, short.train.epochs) == (2, None)
    assert all(task.limit <= recipes.MOST_ROWS for task in short.evaluate.tasks)
    assert short.output.dir == str(tmp_path / "quickstart")
