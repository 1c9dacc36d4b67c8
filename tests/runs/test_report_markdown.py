"""The report as Markdown."""

import json
from pathlib import Path

import pytest

from tunesmith.runs.report.markdown import fenced, inline, render
from tunesmith.runs.report.material import Material
from tunesmith.testing.fake_run import fake_run


def test_the_whole_report(tmp_path: Path) -> None:
    text = render(Material.read(fake_run(tmp_path / "run")))
    assert text.startswith("# tickets: succeeded\n\n**Score on tickets rose from 0.0 % to 91.5 %")
    assert "| tickets (200 rows) | 0.0 % | 91.5 % | +91.5 | +87.0 to +95.0 |" in text
    assert "| held-out rows also trained on | **not ok** | 2 |" in text
    assert "| SHA-256 | " + "9f" * 32 + " |" in text
    assert f"```sh\ntunesmith chat {tmp_path}/run\n```" in text
    assert text.endswith("|\n")


def test_held_out_figures_stand_below_the_loss(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run")
    report = json.loads(folder.report_json.read_text())
    told = {"name": "chosen_log_prob", "n": 40, "before": -31.5, "after": -33.25}
    report["heldout_figures"] = [{**told, "gain": -1.75, "interval": [-2.5, 0.5]}]
    folder.report_json.write_text(json.dumps(report))
    line = "| held-out chosen log prob (40 rows) | -32 | -33 | -1.8 | -2.5 to +0.5 |"
    assert line in render(Material.read(folder))


def test_a_loss_of_tokens_is_told_as_a_perplexity_too_and_one_of_rows_is_not(
    tmp_path: Path,
) -> None:
    folder = fake_run(tmp_path / "run")
    text = render(Material.read(folder))
    assert "| held-out loss, nats per token | 2.416 | 0.214 | -2.202 |" in text
    assert "| held-out perplexity | 11.2 | 1.24 | x 0.111 | x 0.103 to x 0.118 |" in text
    report = json.loads(folder.report_json.read_text())
    report["eval_loss"]["per"] = "row"
    folder.report_json.write_text(json.dumps(report))
    text = render(Material.read(folder))
    assert "| held-out loss, per row | 2.416 |" in text
    assert "perplexity" not in text


@pytest.mark.parametrize("ending", ["succeeded", "failed", "interrupted", "killed"])
def test_each_table_has_as_many_cells_in_each_line(tmp_path: Path, ending: str) -> None:
    text = render(Material.read(fake_run(tmp_path / "run", ending)))
    assert "None" not in text
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    assert blocks
    for block in blocks:
        lines = [line.replace("\\|", "") for line in block.strip().split("\n")]
        assert len({line.count("|") for line in lines}) == 1, block


def test_a_run_that_failed_says_why_and_how_to_go_on(tmp_path: Path) -> None:
    text = render(Material.read(fake_run(tmp_path / "run", "failed")))
    assert "The run failed after step 61 of 125: train: got 3 rejected steps" in text
    assert f"```sh\ntunesmith resume {tmp_path}/run\n```" in text
    assert "tunesmith chat" not in text


def test_texts_of_users_form_no_markup() -> None:
    assert inline("a|b *c* `d`\n# <b> [x]") == r"a\|b \*c\* \`d\` \# &lt;b&gt; \[x\]"


def test_a_fence_is_longer_than_any_within() -> None:
    assert fenced("a\n````\nb", "text") == "`````text\na\n````\nb\n`````"
    assert fenced("plain") == "```\nplain\n```"
