"""The method that docs/extending.md walks through is one file, and runs."""

import math
import re
from pathlib import Path

import pytest
import torch

from tunesmith import methods, recipe
from tunesmith.api.train import train
from tunesmith.methods import base
from tunesmith.runs.timeline import Timeline
from tunesmith.testing.faulty import leave_out_export
from tunesmith.testing.tiny import NUM_VOCABULARY

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture
def focal(tmp_path, monkeypatch):
    """The file of the page, in a folder of methods of its own."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 65
    (tmp_path / "focal.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, "tunesmith.methods.focal", raising=False)
    return base.load("focal")


def test_its_loss_is_that_of_the_equation(focal):
    nll = torch.tensor([math.log(2), math.log(4), 0.0], dtype=torch.float64, requires_grad=True)
    got = focal.focal(nll, 2.0).tolist()
    assert got == pytest.approx([0.25 * math.log(2), 0.5625 * math.log(4), 0.0])
    assert focal.focal(nll, 0.0).tolist() == pytest.approx(nll.tolist())
    assert torch.autograd.gradcheck(
        lambda x: focal.focal(x, 1.5), nll[:2].detach().requires_grad_()
    )


def test_a_recipe_that_names_it_trains_with_it(focal, make, monkeypatch):
    leave_out_export(monkeypatch)
    made = make(train__epochs=1)
    method = {"name": "focal", "gamma": 3.0}
    run = train(recipe.from_dict({**made.model_dump(mode="json"), "method": method}))
    steps = Timeline.read(run.folder.events).steps
    assert all(0 <= step["figures"]["sure"] <= 1 for step in steps)
    # A model that knows nothing misses each token with 1 - 1/V: a little less than log V.
    knows_nothing = (1 - 1 / NUM_VOCABULARY) ** 3 * math.log(NUM_VOCABULARY)
    assert steps[0]["loss"] == pytest.approx(knows_nothing, rel=0.1)
