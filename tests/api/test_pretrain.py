"""A run over raw text and replay: figures, parts, the same bits after a stop."""

import pytest

from tunesmith.api.train import resume, train
from tunesmith.errors import Interrupted
from tunesmith.recipe import from_dict
from tunesmith.runs.folder import RunFolder
from tunesmith.runs.timeline import Timeline


@pytest.fixture
def documents(tmp_path):
    """A folder of texts that are longer and shorter than an example."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for number, text in enumerate(("ab" * 150, "déjà vu 🎉", "x" * 40)):
        (folder / f"{number}.md").write_text(text)
    return folder


def _weights(path, step):
    """All tensors of a checkpoint, as bytes."""
    folder = path / "checkpoints" / f"step-{step}"
    return {file.name: file.read_bytes() for file in sorted(folder.rglob("*.safetensors"))}


def test_a_run_over_raw_text_that_replays_goes_on_to_the_same_bits(make, documents, tmp_path):
    general = tmp_path / "general.txt"
    general.write_text("as before " * 30)

    def recipe(name):
        made = make(
            data__replay={"share": 0.4, "from": str(general)},
            data__train=str(documents), data__eval=str(documents), evaluate__tasks=[],
            output__dir=str(tmp_path / name), train__batch_rows=1, train__accumulate=2,
        )  # fmt: skip
        return from_dict(made.model_dump(mode="json") | {"method": {"name": "pretrain"}})

    with pytest.raises(Interrupted):
        train(recipe("whole"), until=4)
    with pytest.raises(Interrupted):
        train(recipe("parts"), until=2)
    with pytest.raises(Interrupted):
        resume(tmp_path / "parts", until=4)
    whole = _weights(tmp_path / "whole", 4)
    assert whole
    assert _weights(tmp_path / "parts", 4) == whole
    timeline = Timeline.read(RunFolder.open(tmp_path / "whole").events)
    figures = timeline.evaluations[0]["figures"]
    assert figures["perplexity"] > 1
    assert 0 < figures["bits_per_byte"] < 9
    figures = [step["figures"] for step in timeline.steps]
    assert all(0 < told["bits_per_byte"] < 9 for told in figures)
    told = {name for step in figures for name in step}
    assert told == {"bits_per_byte", "loss/docs", "loss/replay"}
