"""The comparison of adapters: rows apart, several references, the choice of a rate."""

import json
from pathlib import Path

import pytest

from benchmarks import e2e, methods, recipes
from benchmarks.methods import search, with_defaults
from benchmarks.methods_table import Base, Figures, plot, table


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

    def heldout(self, adapter: str, rate: float, seed: int) -> float:
        self.asked.append(rate)
        return abs(rate - self.best)


@pytest.mark.parametrize(("factor", "num_runs"), [(1.0, 3), (3.0, 4), (1 / 9, 5), (27.0, 5)])
def test_a_best_rate_at_the_edge_is_looked_beyond(factor, num_runs):
    usual = methods.adapters.load("lora").LEARNING_RATE
    lab = Scripted(usual * factor)
    tried = search(lab, "lora", 0)
    assert list(tried) == lab.asked
    assert len(tried) == num_runs
    assert min(tried, key=tried.get) == pytest.approx(usual * factor)


def test_a_run_that_diverged_is_the_worst_rate_and_is_not_repeated(tmp_path):
    folder = tmp_path / "search-lora-2-1-0"
    folder.mkdir()
    end = {"time": "2026-01-01T00:00:00Z", "event": "finished", "status": "failed"}
    (folder / "events.jsonl").write_text(json.dumps({**end, "reason": "", "exit_code": 3}) + "\n")
    assert methods.Lab(None, tmp_path, 2).heldout("lora", 1.0, 0) == float("inf")


def test_the_table_has_a_row_for_each_adapter_and_the_base(tmp_path):
    def figures(name, seed):
        return Figures(name, 1e-3, seed, 10, 0.1, 1.0, 30.0 + seed, 50.0, 0.1, 900.0, 1.0, 2.0)

    found = {name: [figures(name, seed) for seed in (0, 1)] for name in ("full", "lora")}
    text = table(Base(12.5, 40.0), found)
    assert "30.5 (30.0 to 31.0)" in text
    assert text.count("\n") == 5
    assert "| the base | | | | 12.5 | 40.0 |" in text
    plot(Base(12.5, 40.0), found, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000
    assert {"full", "lora"} <= set(with_defaults())
    assert "peft" not in with_defaults()


def test_a_rate_that_diverged_is_null_in_strict_json(tmp_path):
    def refuse(token):
        raise AssertionError(f"{token} is no JSON")

    run = Figures("full", 1e-3, 0, 10, 0.1, 1.0, 30.0, 50.0, 0.1, 900.0, 1.0, 2.0)
    rates = {"full": {1e-3: 1.0, 3e-3: float("inf")}}
    methods._leave(tmp_path / "x.json", Base(12.5, 40.0), {"full": [run]}, {"rates": rates})
    told = json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)
    assert told["rates"] == {"full": {"0.001": 1.0, "0.003": None}}
    committed = Path(methods.__file__).parent / "results" / "methods.json"
    told = json.loads(committed.read_text(), parse_constant=refuse)
    assert None in told["rates"]["prompt"].values()


def test_recipes_are_cut_to_a_few_steps_and_rows(tmp_path):
    root = Path(__file__).parents[2]
    short = recipes.shortened(root / "recipes" / "quickstart.yaml", 2, tmp_path)
    assert (short.train.steps, short.train.epochs) == (2, None)
    assert all(task.limit <= recipes.MOST_ROWS for task in short.evaluate.tasks)
    assert short.output.dir == str(tmp_path / "quickstart")
