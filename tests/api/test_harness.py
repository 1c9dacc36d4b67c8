"""lm-eval on a model that is loaded here: its numbers are those of the model."""

import json

import pytest
import torch

from tunesmith.api.answer import Speaker
from tunesmith.errors import CommandError
from tunesmith.models.policy import Policy
from tunesmith.testing.tiny import IM_END, byte_tokenizer, tiny_model

LM_EVAL = "lm_eval"


@pytest.fixture(scope="module")
def model():
    """The tiny model as lm-eval sees it."""
    pytest.importorskip(LM_EVAL)
    from tunesmith.api.harness_model import HarnessModel

    tiny = tiny_model(seed=3)
    speaker = Speaker(tiny, byte_tokenizer(), frozenset({IM_END}))
    return HarnessModel(speaker, Policy(tiny, "fast", torch.float32))


def requests(kind, *asked):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, each, i) for i, each in enumerate(asked)]


@torch.no_grad()
def log_prob(context, continuation):
    ids = torch.tensor([[*context, *continuation]])
    log_probs = torch.log_softmax(tiny_model(seed=3)(input_ids=ids).logits[0].double(), -1)
    places = range(len(context) - 1, len(ids[0]) - 1)
    return sum(float(log_probs[at, ids[0, at + 1]]) for at in places)


def test_log_likelihoods_are_those_of_the_model(model):
    asked = [("ab", "c"), ("ab ", "c"), ("", "xyz"), ("q", " longer text")]
    found = model.loglikelihood(requests("loglikelihood", *asked), disable_tqdm=True)
    split = [(b"ab", b"c"), (b"ab", b" c"), (b"", b"xyz"), (b"q", b" longer text")]
    for (context, continuation), (value, _) in zip(split, found, strict=True):
        expected = log_prob(list(context) or [IM_END], list(continuation))
        assert value == pytest.approx(expected, abs=1e-4)


def test_a_whole_text_is_the_sum_over_windows_of_it(model):
    short, long = "hello", "x" * 600
    found = model.loglikelihood_rolling(requests("loglikelihood_rolling", (short,), (long,)))
    assert found[0] == pytest.approx(log_prob([IM_END], list(short.encode())), abs=1e-4)
    # 511 of its 600 tokens are seen from the beginning, the last 89 from the 423rd on.
    ids = list(long.encode())
    windows = log_prob([IM_END], ids[:511]) + log_prob(ids[: 512 - 89], ids[511:])
    assert found[1] == pytest.approx(windows, rel=1e-4)


def test_what_is_too_long_loses_its_beginning(model):
    context = "a" * 600
    ((value, _),) = model.loglikelihood(requests("loglikelihood", (context, "b")), True)
    assert value == pytest.approx(log_prob([97] * 511, [98]), abs=1e-4)


def test_answers_end_before_the_stop_texts_of_their_task(model):
    kwargs = {"until": ["\n\n"], "max_gen_toks": 12}
    whole, cut, other = model.generate_until(
        requests(
            "generate_until",
            ("say", kwargs),
            ("say", {**kwargs, "until": []}),
            ("say", {"max_gen_toks": 3}),
        )
    )
    assert cut.startswith(other)
    assert whole == cut.partition("\n\n")[0]
    stop = cut[2:4]
    (ended,) = model.generate_until(requests("generate_until", ("say", {**kwargs, "until": stop})))
    assert ended == cut.partition(stop)[0]


def test_a_task_file_over_local_data_runs_without_network(tiny_folder, tmp_path, monkeypatch):
    pytest.importorskip(LM_EVAL)
    from tunesmith.api.harness import run_harness

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = [{"q": f"{a} + 1 =", "options": [str(a + 1), str(a)], "right": 0} for a in range(4)]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "sums.yaml").write_text(
        f"task: sums\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\n"
        "doc_to_choice: '{{options}}'\ndoc_to_target: right\n"
        "metric_list: [{metric: acc}, {metric: acc_norm}]\n"
    )
    found = run_harness(str(tiny_folder), ["sums"], limit=3, folder=str(tmp_path))
    scores = found["tasks"]["sums"]
    assert scores["n"] == 3
    assert scores["acc"] in (0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1)
    assert set(scores) == {"n", "acc", "acc_stderr", "acc_norm", "acc_norm_stderr"}
    with pytest.raises(CommandError, match=r"got 'sum'; expected one of lm-eval's .* tasks"):
        run_harness(str(tiny_folder), ["sum"], folder=str(tmp_path))


def test_without_lm_eval_the_command_that_installs_it_is_told(monkeypatch):
    from tunesmith.api import harness

    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    with pytest.raises(CommandError, match=r"hint: pip install 'tunesmith\[lm-eval\]'"):
        harness.run_harness("starter", ["arc_easy"])
