"""The headline: true sentences about what was measured, whatever is missing."""

from pathlib import Path

import pytest

from tunesmith.runs.folder import RunFolder
from tunesmith.runs.report.cards import cards
from tunesmith.runs.report.material import Material
from tunesmith.runs.report.usage import uses
from tunesmith.runs.report.verdict import (
    Verdict,
    forgetting_sentence,
    gain_tone,
    loss_sentence,
    task_sentence,
)
from tunesmith.testing.fake_run import fake_run

TASK = {
    "name": "tickets",
    "n": 200,
    "before": 0.0,
    "after": 0.915,
    "gain": 0.915,
    "interval": [0.87, 0.95],
}


def verdict(folder: RunFolder) -> Verdict:
    return Verdict.of(Material.read(folder))


def test_a_clear_gain() -> None:
    assert task_sentence(TASK).text == (
        "Score on tickets rose from 0.0 % to 91.5 % on 200 held-out rows "
        "(gain 91.5 points, 95 % interval 87.0 to 95.0)."
    )
    assert task_sentence(TASK).tone == "good"


def test_a_gain_that_may_be_chance_is_called_so() -> None:
    task = TASK | {"before": 0.8, "after": 0.81, "gain": 0.01, "interval": [-0.02, 0.04]}
    assert task_sentence(task).text == (
        "Score on tickets went from 80.0 % to 81.0 % on 200 held-out rows "
        "(gain 1.0 points, 95 % interval -2.0 to 4.0). That is no clear change."
    )


def test_a_loss_of_score_is_told_in_positive_points() -> None:
    task = TASK | {"before": 0.8, "after": 0.5, "gain": -0.3, "interval": [-0.4, -0.2]}
    sentence = task_sentence(task)
    assert "fell from 80.0 % to 50.0 %" in sentence.text
    assert "(loss 30.0 points, 95 % interval 20.0 to 40.0)" in sentence.text
    assert sentence.tone == "bad"


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ({"interval": None}, "(gain 91.5 points)."),
        ({"after": None}, "Score on tickets was 0.0 % before training, on 200 held-out rows."),
        ({"before": None}, "Score on tickets was 91.5 % after training, on 200 held-out rows."),
    ],
)
def test_what_is_missing_of_a_task(missing: dict, text: str) -> None:
    assert task_sentence(TASK | missing).text.endswith(text)


def test_a_falling_loss_is_good() -> None:
    sentence = loss_sentence({"before": 2.416, "after": 0.214, "interval": [-2.271, -2.133]})
    assert sentence.text == (
        "Held-out loss fell from 2.416 to 0.214 nats per token "
        "(change -2.202, 95 % interval -2.271 to -2.133)."
    )
    assert sentence.tone == "good"
    row = loss_sentence({"before": 0.7, "after": 0.6, "interval": [-0.2, -0.05], "per": "row"})
    assert "from 0.700 to 0.600 per row (change" in row.text
    assert loss_sentence({"before": 0.2, "after": 0.4, "interval": [0.1, 0.3]}).tone == "bad"


@pytest.mark.parametrize(
    ("budget", "within", "text", "tone"),
    [
        (0.2, True, "KL from the base 0.04 nats per token, within the budget of 0.2.", "good"),
        (0.02, False, "KL from the base 0.04 nats per token, over the budget of 0.02.", "bad"),
        (0.02, None, "KL from the base 0.04 nats per token, over the budget of 0.02.", "bad"),
        (None, None, "KL from the base 0.04 nats per token; the recipe set no budget", "plain"),
    ],
)
def test_forgetting(budget: float | None, within: bool | None, text: str, tone: str) -> None:
    sentence = forgetting_sentence({"kl": 0.04, "budget": budget, "within_budget": within})
    assert sentence.text.startswith(text)
    assert sentence.tone == tone


@pytest.mark.parametrize(
    ("interval", "better", "tone"),
    [
        ([0.1, 0.2], 1, "good"),
        ([0.1, 0.2], -1, "bad"),
        ([0.0, 0.2], 1, "plain"),
        (None, 1, "plain"),
    ],
)
def test_a_tone_needs_an_interval_without_zero(
    interval: list[float] | None, better: int, tone: str
) -> None:
    assert gain_tone(interval, better) == tone


def test_a_run_that_succeeded(tmp_path: Path) -> None:
    made = verdict(fake_run(tmp_path / "run"))
    assert (made.status, made.tone, made.way_on) == ("succeeded", "good", "")
    assert [sentence.text.split()[0] for sentence in made.sentences] == ["Score", "Held-out", "KL"]


def test_a_run_without_measures_says_so(tmp_path: Path) -> None:
    made = verdict(fake_run(tmp_path / "run", measured=False))
    assert [sentence.text for sentence in made.sentences] == [
        "Training finished; nothing was measured (no task, held-out rows or probe)."
    ]


@pytest.mark.parametrize(
    ("ending", "status", "text"),
    [
        ("failed", "failed", "The run failed after step 61 of 125: train: got 3 rejected steps"),
        ("interrupted", "interrupted", "The run was interrupted after step 80 of 125: Ctrl-C"),
        ("killed", "stopped", "The run was killed after step 66 of 125."),
    ],
)
def test_a_run_that_did_not_end_well(tmp_path: Path, ending: str, status: str, text: str) -> None:
    made = verdict(fake_run(tmp_path / "my run", ending))
    assert made.status == status
    assert made.sentences[0].text.startswith(text)
    assert made.sentences[1].text.startswith("Everything up to step ")
    assert made.way_on == f"tunesmith resume '{tmp_path}/my run'"


def test_a_run_that_goes_on_is_not_called_killed(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", "killed")
    with folder.hold():
        made = verdict(folder)
    assert made.status == "running"
    assert made.sentences[0].text == "The run is going on after step 66 of 125."
    assert made.way_on == ""


def test_cards_leave_out_what_was_not_measured(tmp_path: Path) -> None:
    full = Material.read(fake_run(tmp_path / "full")).report
    plain = Material.read(fake_run(tmp_path / "plain", measured=False)).report
    assert [card.label for card in cards(full)] == [
        "Score on tickets",
        "Held-out loss",
        "KL from the base",
        "Training time",
        "Peak memory",
        "Trained parameters",
    ]
    assert [card.label for card in cards(plain)] == [
        "Training time",
        "Peak memory",
        "Trained parameters",
    ]
    assert cards(full)[0].note == "from 0.0 %, +91.5 points"


def test_how_to_use_an_adapter_and_a_whole_model(tmp_path: Path) -> None:
    material = Material.read(fake_run(tmp_path / "run"))
    codes = [use.code for use in uses(material)]
    assert codes[0] == f"tunesmith chat {tmp_path}/run"
    assert codes[1] == f"tunesmith export {tmp_path}/run --to merged"
    assert f'AutoPeftModelForCausalLM.from_pretrained("{tmp_path}/run/adapter")' in codes[2]
    material.report["adapter"] = {"name": "full"}
    material.report["artefact"] = {"path": "model"}
    assert f'AutoModelForCausalLM.from_pretrained("{tmp_path}/run/model")' in uses(material)[2].code


@pytest.mark.parametrize(
    ("gives", "verb", "line"),
    [
        ("scores", "classify", "config = AutoConfig.from_pretrained("),
        ("states", "export", "model = SentenceTransformer("),
    ],
)
def test_how_to_use_a_model_that_does_not_write(
    tmp_path: Path, gives: str, verb: str, line: str
) -> None:
    material = Material.read(fake_run(tmp_path / "run"))
    material.report["method"] = {"name": "m", "gives": gives}
    found = uses(material)
    assert found[0].code.startswith(f"tunesmith {verb} ")
    assert line in found[-1].code
    assert all("chat" not in use.code for use in found)


@pytest.mark.parametrize(
    ("gives", "lines"),
    [
        ("logits", ["tunesmith chat ", "AutoPeftModelForCausalLM"]),
        ("scores", ["tunesmith classify ", "# Give it one text at a time: "]),
        ("states", ['open_reader("']),
    ],
)
def test_how_to_use_virtual_tokens(tmp_path: Path, gives: str, lines: list[str]) -> None:
    """They are in no weights, so nothing is merged."""
    folder = fake_run(tmp_path / "run")
    folder.adapter.mkdir(exist_ok=True)
    (folder.adapter / "adapter_config.json").write_text('{"num_virtual_tokens": 4}')
    material = Material.read(folder)
    material.report["method"] = {"name": "m", "gives": gives}
    found = uses(material)
    assert all(line in use.code for use, line in zip(found, lines, strict=True))


def test_a_run_without_an_artefact_cannot_be_used(tmp_path: Path) -> None:
    assert uses(Material.read(fake_run(tmp_path / "run", "failed"))) == []
