"""The main job on the real model: it learns, and what is exported answers the same elsewhere."""

import json
import sys
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.api.plan import plan
from tunesmith.api.train import train
from tunesmith.recipe import from_dict, read

ROOT = Path(__file__).parents[2]
TICKETS = ROOT / "examples" / "tickets"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(starter, tmp_path_factory):
    """Twelve steps of LoRA on tickets."""
    folder = tmp_path_factory.mktemp("starter")
    heldout = folder / "heldout.jsonl"
    rows = (TICKETS / "heldout.jsonl").read_text().splitlines()[:24]
    heldout.write_text("\n".join(rows) + "\n")
    recipe = {
        "model": {"base": "starter"},
        "data": {"train": str(TICKETS / "train.jsonl"), "eval": str(heldout), "max_tokens": 512},
        "train": {"steps": 12, "batch_rows": 4, "learning_rate": 1e-3},
        "evaluate": {
            "tasks": [
                {"path": str(heldout), "grader": "json_equal", "max_new_tokens": 40, "limit": 4}
            ],
            "probes": [],
        },
        "output": {"dir": str(folder / "run")},
    }
    return train(from_dict(recipe))


def test_it_learns(run):
    report = run.report
    loss = report["eval_loss"]
    assert loss["before"] > 1.0
    assert loss["after"] < 0.5 * loss["before"]
    assert loss["interval"][1] < 0
    assert report["certificate"]["ok"]


def test_the_answer_has_the_form_of_a_ticket(run):
    text = run.generate("Hello, my kettle (order 48213) leaks. I need a new one by Friday!")
    assert set(json.loads(text)) == {"category", "product", "order", "urgent"}


def test_adapter_and_merged_answer_alike_in_peft_and_transformers(run, tmp_path):
    merged = run.export("merged", tmp_path / "merged")
    tuned = AutoPeftModelForCausalLM.from_pretrained(run.folder.adapter, dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    messages = [{"role": "user", "content": "Where is my toaster? Order 12345."}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    torch.testing.assert_close(plain(**ids).logits, tuned(**ids).logits, rtol=1e-3, atol=1e-3)
    answers = [m.generate(**ids, max_new_tokens=24, do_sample=False) for m in (plain, tuned)]
    assert torch.equal(*answers)


def test_the_quickstart_plans(starter, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys.modules[plan.__module__], "FIT_SECONDS", 0.0)
    few = ["evaluate.batch_rows=8", "evaluate.probes=[]"]  # Of what takes longest to rehearse.
    found = plan(read(ROOT / "recipes" / "quickstart.yaml", few))
    assert found.num_steps > 0
    assert all(check.ok for check in found.checks)
    assert found.fit.peak_memory_gib < found.fit.available_memory_gib


def test_ollama_gets_the_same_model_in_eight_bits(run, tmp_path):
    out = run.export("ollama", tmp_path / "ollama")
    proof = json.loads((out / "certificate.json").read_text())
    assert proof["ok"]
    assert proof["unequal_texts"] == 0
    assert proof["texts"] > 16
    assert proof["heldout_loss"]["rows"] == 16
    assert proof["heldout_loss"]["exported"] == pytest.approx(
        proof["heldout_loss"]["trained"], abs=0.05
    )
    assert proof["template"]["equal"] == proof["template"]["conversations"] > 90
    # 134.5 M numbers in blocks of 32 bytes and a scale of 2
    assert 143e6 < (out / "run-q8_0.gguf").stat().st_size < 150e6
    assert "helpful AI assistant named SmolLM" in (out / "Modelfile").read_text()
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in (out / "README.md").read_text()
