"""Runs of virtual tokens under other heads, from rows to what PEFT loads."""

import json

import pytest
import torch
from peft import AutoPeftModelForFeatureExtraction, PeftModel
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from tunesmith.api.classify import classify
from tunesmith.api.evaluate import evaluate
from tunesmith.api.export import Wish, export_run
from tunesmith.api.reader import open_reader
from tunesmith.api.scored import rewards
from tunesmith.api.train import resume, train
from tunesmith.api.verify import verify
from tunesmith.errors import CommandError, Interrupted
from tunesmith.runs.folder import RunFolder

KINDS = {
    "prompt": {"name": "prompt", "virtual_tokens": 6, "init_text": "which kind"},
    "prefix": {"name": "prefix", "virtual_tokens": 6},
    "ptuning": {"name": "ptuning", "virtual_tokens": 6, "encoder": "lstm", "dropout": 0.1},
}
TEXTS = ["one", "oh oh two", "blue, 日本 🙂", "x"]
LABELS = {"colour": ("red", "blue", "green"), "number": ("one", "two", "three")}


@pytest.fixture
def labelled(tmp_path):
    """24 texts of two classes."""
    rows = [
        {"text": ("oh " * i) + word, "label": label}
        for label, words in LABELS.items()
        for word in words
        for i in range(4)
    ]
    return _write(tmp_path / "labelled.jsonl", rows)


@pytest.fixture
def with_head(make, tmp_path):
    """Builds the tiny recipe over a kind, a method and its rows, into a folder of its own."""

    def build(kind, method, path, folder="run", **changes):
        return make(
            adapter=KINDS[kind] if isinstance(kind, str) else kind,
            method={"name": method},
            data={"train": path, "eval": path, "max_tokens": 128},
            evaluate__tasks=[],
            output__dir=str(tmp_path / folder),
            **{"train__epochs": None, "train__steps": 6} | changes,
        )

    return build


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _require_proven(report):
    assert report["status"] == "succeeded"
    assert report["certificate"]["max_logit_difference"] < 1e-5
    assert report["eval_loss"]["after"] < report["eval_loss"]["before"]
    assert report["adapter"]["targeted"][0] == "virtual tokens x6"


def _by_peft(folder, texts):
    """Scores as a stranger gets them, one text at a time."""
    written = json.loads((folder / "adapter_config.json").read_text())
    assert written["task_type"] == "SEQ_CLS"
    base = written["base_model_name_or_path"]
    config = AutoConfig.from_pretrained(folder)
    bare = AutoModelForSequenceClassification.from_pretrained(base, config=config)
    model, tokenizer = PeftModel.from_pretrained(bare, folder).eval(), _tokenizer(folder)
    with torch.inference_mode():
        return torch.cat([model(**tokenizer(text)).logits for text in texts])


def _tokenizer(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def tokenize(text):
        found = tokenizer(text, return_tensors="pt")
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    return tokenize


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_is_proven_and_what_peft_loads(with_head, labelled, kind, tmp_path):
    run = train(with_head(kind, "classify", labelled, evaluate__probes=["general"]))
    report = run.report
    _require_proven(report)
    assert report["adapter"]["targeted"][1:] == ["score x1"]
    assert report["forgetting"]["kl"] > 0
    assert all(finding.ok for finding in verify(run.path))
    folder = run.path / "adapter"
    assert AutoConfig.from_pretrained(folder).id2label == {0: "colour", 1: "number"}
    found = classify(run.path, TEXTS)
    ours = torch.tensor([one["scores"] for one in found])
    torch.testing.assert_close(ours, _by_peft(folder, TEXTS), rtol=1e-4, atol=1e-5)
    measured = evaluate(str(run.path), labelled)
    assert measured["loss"] == pytest.approx(report["eval_loss"]["after"], rel=1e-4)
    target = export_run(RunFolder.open(run.path), Wish("adapter", tmp_path / "out"))
    assert json.loads((target / "certificate.json").read_text())["ok"]
    assert [one["scores"] for one in classify(target, TEXTS)] == [one["scores"] for one in found]
    with pytest.raises(CommandError, match="got merged, of an adapter that is no change"):
        export_run(RunFolder.open(run.path), Wish("merged", tmp_path / "other"))


@pytest.mark.parametrize("kind", ["prefix", "ptuning"])
def test_a_stopped_classifier_resumes_to_the_same_bits(with_head, labelled, kind):
    same = {"train__precision": "bf16"}
    whole = train(with_head(kind, "classify", labelled, "whole", **same)).report
    assert whole["certificate"]["ok"]
    with pytest.raises(Interrupted):
        train(with_head(kind, "classify", labelled, "parts", **same), until=2)
    again = resume(with_head(kind, "classify", labelled, "parts").output.dir).report
    assert again["artefact"]["sha256"] == whole["artefact"]["sha256"]
    assert again["eval_loss"] == whole["eval_loss"]


def test_a_classifier_goes_on_from_an_earlier_one(with_head, labelled):
    first = train(with_head("ptuning", "classify", labelled, "first"))
    keys = {"name": "prompt", "virtual_tokens": 6, "from": str(first.path)}
    changes = {"train__learning_rate": 1e-3}
    second = train(with_head(keys, "classify", labelled, "second", **changes)).report
    _require_proven(second)
    assert second["eval_loss"]["before"] == pytest.approx(first.report["eval_loss"]["after"])


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_a_reward_model_scores_answers(with_head, tmp_path, quantize):
    rows = [
        {"prompt": f"number {i}?", "chosen": f"it is {i}", "rejected": "no" * (1 + i % 3)}
        for i in range(16)
    ]
    pairs = _write(tmp_path / "pairs.jsonl", rows)
    run = train(with_head("prefix", "reward", pairs, model__quantize=quantize))
    _require_proven(run.report)
    good, bad = rewards(run.path, ["number 3?"] * 2, ["it is 3", "nono"])
    assert good > bad


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_an_embedder_gives_vectors_that_peft_gives(with_head, kind, tmp_path):
    words = [word for words in LABELS.values() for word in words]
    rows = [{"anchor": f"the {word}", "positive": word, "negatives": ["x"]} for word in words]
    run = train(with_head(kind, "embed", _write(tmp_path / "related.jsonl", rows)))
    _require_proven(run.report)
    folder = run.path / "adapter"
    assert "open_reader" in (folder / "README.md").read_text()
    model, tokenizer = (
        AutoPeftModelForFeatureExtraction.from_pretrained(folder).eval(),
        _tokenizer(folder),
    )
    theirs = []
    for text in TEXTS:
        tokens = tokenizer(text)
        with torch.inference_mode():
            states = model(**tokens).last_hidden_state[0, -tokens["input_ids"].shape[1] :]
        theirs.append(normalize(states.mean(0), dim=0))
    ours = open_reader(run.path).vectors(TEXTS)
    torch.testing.assert_close(ours, torch.stack(theirs), rtol=1e-4, atol=1e-5)
