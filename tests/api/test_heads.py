"""Runs with another head than the language model's, from rows to what transformers loads."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from tunesmith.api.classify import classify as classify_texts
from tunesmith.api.evaluate import evaluate
from tunesmith.api.plan import plan
from tunesmith.api.preview import preview
from tunesmith.api.reader import open_reader
from tunesmith.api.scored import rewards
from tunesmith.api.train import resume, train
from tunesmith.errors import CommandError, DataError, Interrupted, RecipeError
from tunesmith.recipe import from_dict
from tunesmith.runs.timeline import Timeline

WORDS = {"colour": ("red", "blue", "green"), "number": ("one", "two", "three")}
TEXTS = ["one", "oh oh two", "blue, 日本 🙂", "x"]


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Where the runs of these tests lie."""
    return tmp_path_factory.mktemp("heads")


@pytest.fixture(scope="module", autouse=True)
def home(room):
    """The caches of a user, shared by these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_HOME", str(room / "home"))
        yield


@pytest.fixture(scope="module")
def classify(tiny_folder, room):
    """A recipe of method classify over 24 texts of two classes, with dotted changes."""
    rows = [
        {"text": ("oh " * (i % 4)) + word, "label": label}
        for label, words in WORDS.items()
        for word in words
        for i in range(4)
    ]
    path = _write(room / "labelled.jsonl", rows)

    def build(name, **changes):
        data = {
            "model": {"base": str(tiny_folder)},
            "data": {"train": path, "eval": path, "max_tokens": 128},
            "adapter": {"name": "lora", "rank": 4},
            "method": {"name": "classify"},
            "train": {"steps": 4, "learning_rate": 1e-2, "precision": "fp32"},
            "evaluate": {"probes": []},
            "output": {"dir": str(room / name)},
        }
        for key, value in changes.items():
            section, _, key = key.partition("__")
            data[section] = value if not key else data[section] | {key: value}
        return from_dict(data)

    return build


@pytest.fixture(scope="module")
def trained(classify):
    """A run of it with LoRA, forgetting measured."""
    return train(classify("lora", evaluate__probes=["general"]))


def test_a_classifier_leaves_its_proofs(trained):
    report = trained.report
    assert report["status"] == "succeeded"
    assert report["certificate"]["max_logit_difference"] == 0.0
    assert report["eval_loss"]["after"] < report["eval_loss"]["before"]
    assert report["forgetting"]["kl"] > 0
    assert report["adapter"]["targeted"][-1] == "score x1"
    assert report["method"] == {"name": "classify", "gives": "scores"}
    assert set(report["heldout_overall"]["f1_macro"]) == {"before", "after"}
    assert "AutoModelForSequenceClassification" in (trained.path / "adapter/README.md").read_text()
    assert {check["check"] for check in report["contract"]} >= {"token that is read", "one BOS"}


def test_its_scores_are_those_of_transformers(trained):
    folder = trained.path / "adapter"
    config = AutoConfig.from_pretrained(folder)
    assert config.id2label == {0: "colour", 1: "number"}
    base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    bare = AutoModelForSequenceClassification.from_pretrained(base, config=config)
    model = PeftModel.from_pretrained(bare, folder).eval()
    padded = AutoTokenizer.from_pretrained(folder)(TEXTS, return_tensors="pt", padding=True)
    with torch.inference_mode():
        theirs = model(**{k: padded[k] for k in ("input_ids", "attention_mask")}).logits
    ours = torch.tensor([one["scores"] for one in classify_texts(trained.path, TEXTS)])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_it_reads_texts_and_turns_and_does_not_chat(trained):
    found = classify_texts(trained.path, ["one", [{"role": "user", "content": "red"}]])
    assert {one["label"] for one in found} <= set(WORDS)
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1)
    with pytest.raises(CommandError, match="text 2.*empty"):
        classify_texts(trained.path, ["one", " "])
    with pytest.raises(CommandError, match="tunesmith classify"):
        trained.generate("hello")


def test_rows_of_a_file_are_measured_as_the_held_out_ones(trained, room):
    found = evaluate(str(trained.path), str(room / "labelled.jsonl"))
    report = trained.report
    assert found["loss"] == pytest.approx(report["eval_loss"]["after"], rel=1e-5)
    assert found["overall"]["f1_macro"] == report["heldout_overall"]["f1_macro"]["after"]
    assert found["n"] == 24
    low, high = found["figures"]["accuracy"]["interval"]
    assert low <= found["figures"]["accuracy"]["mean"] <= high


def test_a_classifier_is_planned_and_previewed(classify):
    recipe = classify("plan")
    assert plan(recipe).tokens_trained == 0
    assert preview(recipe)[0].pieces == [("red", False)]


def test_a_mixture_with_replay_and_a_share_held_out_is_told_by_source(classify, room):
    rows = [{"said": "four" * (1 + i % 3), "what": "number"} for i in range(8)]
    more = {"path": _write(room / "more.jsonl", rows), "name": "more"}
    more["columns"] = {"text": "said", "label": "what"}
    general = _write(room / "general.jsonl", [{"text": "pink", "label": "colour"}] * 3)
    recipe = classify(
        "mixture",
        data__train=[{"path": str(room / "labelled.jsonl")}, more],
        data__eval=0.25,
        data__replay={"share": 0.25, "from": general},
    )
    run = train(recipe)
    step = Timeline.read(run.folder.events).steps[0]["figures"]
    assert {"loss/labelled", "loss/more", "loss/replay"} <= set(step)
    told = run.report["heldout_overall"]
    assert set(told) == {"f1_macro", "loss/labelled", "loss/more"}
    assert [each["name"] for each in run.report["sources"]] == ["labelled", "more", "replay"]


def test_a_classifier_replays_no_answers_of_the_base(classify):
    with pytest.raises(RecipeError, match="reads no prompts and completions"):
        plan(classify("replay", data__replay={"share": 0.25, "from": "base"}))


def test_a_stopped_classifier_resumes_to_the_same_bits(classify):
    same = {"adapter__dropout": 0.1, "train__precision": "bf16"}
    whole = train(classify("whole", **same)).report["artefact"]["sha256"]
    with pytest.raises(Interrupted):
        train(classify("stopped", **same), until=2)
    again = resume(classify("stopped").output.dir).report
    assert again["artefact"]["sha256"] == whole
    assert again["certificate"]["ok"]


def test_a_whole_model_is_exported_merged_and_not_as_gguf(classify):
    run = train(classify("full", adapter={"name": "full"}))
    assert run.report["certificate"]["max_logit_difference"] == 0.0
    model = AutoModelForSequenceClassification.from_pretrained(run.path / "model")
    assert model.config.label2id == {"colour": 0, "number": 1}
    merged = run.export("merged")
    assert json.loads((merged / "certificate.json").read_text())["ok"]
    expected = open_reader(run.path).scores(TEXTS)
    torch.testing.assert_close(open_reader(merged).scores(TEXTS), expected)
    with pytest.raises(CommandError, match="no language-model head"):
        run.export("gguf")


def test_a_quantised_base_is_classified_over(classify):
    report = train(classify("int8", model__quantize="int8")).report
    assert report["certificate"]["ok"]


def test_a_label_of_the_heldout_rows_that_no_training_row_has(classify, room):
    other = _write(room / "other.jsonl", [{"text": "ha", "label": "laughter"}])
    with pytest.raises(DataError, match="other.jsonl:1.*laughter") as error:
        train(classify("unknown", data__eval=other))
    assert "colour, number" in str(error.value)


def test_a_classifier_is_given_no_task(classify, room):
    rows = _write(room / "task.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(RecipeError, match=r"evaluate\.tasks.*classify"):
        train(classify("task", evaluate__tasks=[{"path": rows, "grader": "exact"}]))


def test_a_reward_model_scores_answers_and_is_what_transformers_loads(classify, room):
    rows = [
        {"prompt": f"number {i}?", "chosen": f"it is {i}", "rejected": "no" * (1 + i % 3)}
        for i in range(16)
    ]
    pairs = _write(room / "pairs.jsonl", rows)
    run = train(
        classify(
            "reward",
            data={"train": pairs, "eval": pairs, "max_tokens": 128},
            method={"name": "reward"},
        )
    )
    assert run.report["certificate"]["max_logit_difference"] == 0.0
    assert run.report["eval_loss"]["after"] < run.report["eval_loss"]["before"]
    good, bad = rewards(run.path, ["number 3?"] * 2, ["it is 3", "nono"])
    merged = open_reader(run.export("merged"))
    assert rewards(merged, ["number 3?"] * 2, ["it is 3", "nono"]) == pytest.approx([good, bad])
    assert good > bad
    with pytest.raises(CommandError, match="1 answers to 2 prompts"):
        rewards(merged, ["a", "b"], ["c"])


@pytest.fixture(scope="module")
def embedder(classify, room):
    """A run of method embed with LoRA over a few pairs."""
    words = [word for words in WORDS.values() for word in words]
    rows = [{"anchor": f"the {word}", "positive": word, "negatives": ["x"]} for word in words]
    pairs = _write(room / "related.jsonl", rows)
    data = {"train": pairs, "eval": pairs, "max_tokens": 128}
    return train(classify("embed", data=data, method={"name": "embed"}))


def test_an_embedder_leaves_its_proofs(embedder):
    report = embedder.report
    assert report["status"] == "succeeded"
    assert report["certificate"]["max_logit_difference"] == 0.0
    assert report["eval_loss"]["after"] < report["eval_loss"]["before"]
    vectors = open_reader(embedder.path).vectors(["the red", "red", "x"])
    assert vectors.norm(dim=1).tolist() == pytest.approx([1.0] * 3, rel=1e-5)
    with pytest.raises(CommandError, match="vectors"):
        classify_texts(embedder.path, ["x"])


def test_a_merged_embedder_is_what_transformers_pools(embedder):
    merged = embedder.export("merged")
    expected = open_reader(embedder.path).vectors(TEXTS)
    torch.testing.assert_close(open_reader(merged).vectors(TEXTS), expected, rtol=1e-5, atol=1e-5)
    model, tokenizer = AutoModel.from_pretrained(merged), AutoTokenizer.from_pretrained(merged)
    padded = tokenizer(TEXTS, return_tensors="pt", padding=True)
    mask = padded["attention_mask"][..., None]
    with torch.inference_mode():
        states = model(input_ids=padded["input_ids"], attention_mask=mask[..., 0]).last_hidden_state
    theirs = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
    torch.testing.assert_close(expected, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_an_embedder_is_what_sentence_transformers_loads(embedder, form):
    library = pytest.importorskip("sentence_transformers")
    folder = embedder.path / ("adapter" if form == "adapter" else "export-merged")
    if not folder.is_dir():
        embedder.export("merged")
    theirs = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    ours = open_reader(embedder.path).vectors(TEXTS)
    torch.testing.assert_close(torch.from_numpy(theirs), ours, rtol=1e-4, atol=1e-5)
