"""The model card says what was measured, and what was not."""

import re

import pytest
import yaml

from tunesmith.export import card
from tunesmith.export.card import Subject
from tunesmith.export.certificate import Certificate, HeldoutLoss
from tunesmith.testing.fake_run import report as fake_report

RECIPE = {
    "method": {"name": "sft"},
    "adapter": {"name": "lora", "rank": 16, "alpha": None},
    "train": {"learning_rate": 1e-3, "epochs": 1.5, "seed": 0},
    "data": {"max_tokens": 512},
    "model": {"quantize": "none"},
}
PROOF = Certificate(
    ok=True,
    max_logit_difference=0.0421,
    tolerance=None,
    equal_greedy_tokens=0.992,
    prompts=4,
    mean_kl=1.25e-4,
    worst_kl=3.1e-3,
    reader="llama.cpp",
    heldout_loss=HeldoutLoss(16, 500, 0.2141, 0.2153),
)


def _written(tmp_path, to="gguf", stored="q8_0", **changes):
    report = fake_report(measured=changes.pop("measured", True))
    report |= changes
    (tmp_path / "x-q8_0.gguf").write_bytes(b"0" * 1000)
    proof = None if to == "model" else PROOF
    card.write(tmp_path, Subject(report, RECIPE, to, stored, proof))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    return yaml.safe_load(re.match(r"---\n(.*?)---\n", text, re.S)[1]), text


def test_the_front_matter_is_that_of_the_hub(tmp_path):
    front, _ = _written(tmp_path)
    assert front == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "library_name": "gguf",
        "pipeline_tag": "text-generation",
        "license": "apache-2.0",
        "tags": ["tunesmith", "sft", "lora"],
    }


def test_figures_are_those_of_report_and_certificate(tmp_path):
    _, text = _written(tmp_path)
    assert "| tickets | 200 | 0.0 | 91.5 | +91.5 (87.0 to 95.0) |" in text
    assert (
        "| held-out loss, nats per token |  | 2.416 | 0.214 | -2.202 (-2.271 to -2.133) |" in text
    )
    assert "mean KL from the base is 0.039 nats per token (0.031 to 0.049; budget: 0.2" in text
    assert f"| `train.jsonl` | - | `{'ab' * 32}` |" in text
    assert "| `adapter.rank` | `16` |" in text
    assert "adapter.alpha" not in text
    assert "| read back by | llama.cpp |" in text
    assert "| mean KL from the trained model | 0.00013 nats per token |" in text
    assert "| loss on 16 held-out rows, as trained and exported | 0.214, 0.215 |" in text
    assert "| file | `x-q8_0.gguf`, 1.0 kB |" in text


def test_rows_of_each_file_are_told_where_the_run_counted_them(tmp_path):
    data = fake_report()["data"] | {"rows_by_file": {"data/train.jsonl": 1000}}
    _, text = _written(tmp_path, data=data)
    assert f"| `train.jsonl` | 1,000 | `{'ab' * 32}` |" in text


def test_what_was_not_measured_is_said(tmp_path):
    _, text = _written(tmp_path, measured=False)
    assert "Nothing was measured." in text
    assert "nobody measured whether the answers are right" in text
    assert "What the model forgot was not measured." in text


def test_a_local_base_is_named_but_not_as_one_of_the_hub(tmp_path):
    base = tmp_path / "my base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: MIT\n---\n# Mine")
    front, text = _written(tmp_path, base=fake_report()["base"] | {"id": str(base)})
    assert "base_model" not in front
    assert front["license"] == "mit"
    assert "| base | `my base` |" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("content", ["# no front matter", "---\n: [\n---\n", "---\n- a\n---\n"])
def test_a_licence_that_is_not_told_is_not_invented(tmp_path, content):
    (tmp_path / "README.md").write_text(content)
    assert card.licence(str(tmp_path)) == ""


@pytest.mark.parametrize(
    ("to", "text"),
    [
        ("adapter", "AutoPeftModelForCausalLM.from_pretrained"),
        ("merged", "AutoModelForCausalLM.from_pretrained"),
        ("model", "AutoModelForCausalLM.from_pretrained"),
        ("gguf", "llama-cli -m x-q8_0.gguf"),
        ("ollama", "ollama create tickets -f Modelfile"),
    ],
)
def test_each_form_says_how_to_load_it(to, text, tmp_path):
    assert text in _written(tmp_path, to, "")[1]


def test_text_of_users_cannot_break_the_table(tmp_path):
    task = fake_report()["task"] | {"name": "a | b\nc"}
    assert "| a \\| b c | 200 |" in _written(tmp_path, tasks=[task])[1]
