"""A run over raw text: figures, parts, the same bits after a stop."""

import pytest

from tunesmith.api.train import resume, train
from tunesmith.errors import Interrupted
from tunesmith.recipe import from_dict
from tunesmith.runs.timeline import Timeline


@pytest.fixture
def documents(tmp_path):
    """A folder of texts that are longer and shorter than an example."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for number, text in enumerate(("ab" * 150, "déjà vu 🎉", "x" * 40)):
        (folder / f"{number}.md").write_text(text)
    return folder


@pytest.mark.parametrize("across", [False, True])
def test_a_run_over_raw_text_goes_on_to_the_same_bits(make, documents, tmp_path, across):
    method = {"name": "pretrain", "across": across}

    def recipe(name):
        made = make(
            data__train=str(documents), data__eval=str(documents), evaluate__tasks=[],
            output__dir=str(tmp_path / name), train__batch_rows=1, train__accumulate=2,
        )  # fmt: skip
        data = made.model_dump(mode="json")
        data["method"] = method
        return from_dict(data)

    whole = train(recipe("whole"))
    figures = Timeline.read(whole.folder.events).evaluations[-1]["figures"]
    assert figures["perplexity"] > 1
    assert 0 < figures["bits_per_byte"] < 9
    assert "bits_per_byte" in Timeline.read(whole.folder.events).steps[0]["figures"]
    with pytest.raises(Interrupted):
        train(recipe("parts"), until=2)
    parts = resume(tmp_path / "parts")
    assert parts.report["artefact"]["sha256"] == whole.report["artefact"]["sha256"]
    lengths = {c["check"]: c["says"] for c in whole.report["contract"]}["lengths"]
    assert "cut in two" in lengths
