"""What a user does with a recipe, done with every method: look, plan, train to the end, verify."""

import pytest

from tests.api.matrix import LIKE
from tunesmith.api.plan import plan
from tunesmith.api.preview import preview
from tunesmith.api.train import train
from tunesmith.api.verify import verify
from tunesmith.methods import base as methods

SHORT = {"train__epochs": None, "train__accumulate": 1}


def _short(of_method, name):
    """Two steps, each of a row, or of two where one has nothing to be compared with."""
    changes = {"method__threshold": None} if name == "rejection" else {}
    if "sampler" in methods.load(name).NEEDS:
        changes |= {"method__grader": LIKE, "method__max_new_tokens": 5}
    rows = 2 if name in ("kto", "embed") else 1
    return of_method(name, train__steps=2, train__batch_rows=rows, **SHORT, **changes)


@pytest.mark.parametrize("name", methods.names())
def test_rows_are_shown(of_method, name):
    for shown in preview(of_method(name), rows=2):
        assert "".join(text for text, _ in shown.pieces)
        assert 0 <= shown.num_trained <= shown.num_tokens


@pytest.mark.parametrize("name", methods.names())
def test_a_short_run_is_planned(of_method, name):
    planned = plan(_short(of_method, name))
    assert planned.num_steps == 2
    assert planned.fit.predicted_seconds > 0


@pytest.mark.parametrize("name", methods.names())
def test_a_short_run_comes_to_a_good_end(of_method, name):
    run = train(_short(of_method, name))
    assert run.status == "succeeded"
    assert all(finding.ok for finding in verify(run.path))
    assert run.folder.report_html.is_file()
