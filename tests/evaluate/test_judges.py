"""Graders that ask a model: what is sent, what is read, what is tried again, what is kept."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tunesmith.errors import RecipeError, RunError
from tunesmith.evaluate import graders
from tunesmith.evaluate.graders.base import Answered
from tunesmith.evaluate.judges import endpoint, kept
from tunesmith.evaluate.judges.replies import label_in, number_in
from tunesmith.evaluate.means import Drawing, Means, Unanswered


class Service:
    """An OpenAI-compatible service; a test decides its replies: status, headers, body."""

    def __init__(self):
        self.seen = []
        self.replies = []
        self.default = said('{"result": 0.5}')

    def __enter__(self):
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):  # as http.server wants it
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.seen.append((self.path, dict(self.headers), body))
                status, headers, reply = (
                    service.replies.pop(0) if service.replies else service.default
                )
                data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *words):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def said(text):
    return 200, {}, {"choices": [{"message": {"role": "assistant", "content": text}}]}


def failed(status, message="no", **headers):
    return (
        status,
        headers,
        {"error": {"message": message, "type": "t", "param": None, "code": None}},
    )


@pytest.fixture
def service(monkeypatch, tmp_path):
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(endpoint, "FIRST_WAIT_SECONDS", 0.001)
    with Service() as running:
        yield running


def spec(service, **keys):
    return {
        "type": "score_model",
        "model": "big",
        "endpoint": service.address,
        "parallel": 1,
        "input": [
            {"role": "developer", "content": "You grade."},
            {"role": "user", "content": [{"type": "input_text", "text": "Is {{item.a}} as good?"},
                                         "{{sample.output_text}}"]},
        ],
        **keys,
    }  # fmt: skip


def scored(grader, *outputs):
    return graders.open(grader).score_all([Answered(output, "", {"a": "b"}) for output in outputs])


def test_the_question_is_that_of_the_row_and_the_score_is_clipped(service, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    service.replies = [said('{"steps": [], "result": 7}')]
    grader = spec(service, key_variable="MY_KEY", range=[1, 5], sampling_params={
        "temperature": 0.5, "top_p": 0.9, "seed": 3, "max_completions_tokens": 9,
        "reasoning_effort": "low"})  # fmt: skip
    assert scored(grader, "yes")[0].score == 5.0
    ((path, headers, body),) = service.seen
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    form = (
        'Answer with one JSON object and nothing else: {"steps": [{"description": "...", '
        '"conclusion": "..."}], "result": a number from 1 to 5}'
    )
    assert body == {
        "model": "big",
        "messages": [
            {"role": "system", "content": "You grade."},
            {"role": "user", "content": f"Is b as good?\nyes\n\n{form}"},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "max_completion_tokens": 9,
        "reasoning_effort": "low",
    }


def test_what_is_not_set_is_not_sent(service):
    scored(spec(service), "yes")
    ((_, headers, body),) = service.seen
    assert "Authorization" not in headers
    assert sorted(body) == ["messages", "model"]


def test_an_answer_is_kept_by_what_was_asked(service):
    service.replies = [said('{"result": 0.25}'), said('{"result": 0.75}')]
    assert [s.score for s in scored(spec(service), "yes", "no", "yes")] == [0.25, 0.75, 0.25]
    assert [s.score for s in scored(spec(service), "no", "yes")] == [0.75, 0.25]
    assert len(service.seen) == 2
    for other in (
        {"model": "other"},
        {"sampling_params": {"seed": 1}},
        {"range": [0, 2]},
    ):
        assert scored(spec(service, **other), "yes")[0].score == 0.5
    assert len(service.seen) == 5


def test_a_damaged_answer_is_asked_again(service, tmp_path):
    scored(spec(service), "yes")
    (path,) = (tmp_path / "judged").rglob("*.json")
    path.write_text("{")
    assert scored(spec(service), "yes")[0].score == 0.5
    assert len(service.seen) == 2


def test_what_passes_is_tried_again(service):
    service.replies = [
        failed(429, **{"Retry-After": "0.01"}),
        failed(503),
        (200, {}, b"<html>"),
        (200, {}, {"choices": []}),
        said('{"result": 1}'),
    ]
    assert scored(spec(service), "yes")[0].score == 1.0
    assert len(service.seen) == 5


@pytest.mark.parametrize(
    ("reply", "text", "num_tries"),
    [
        (failed(401, "bad key"), "got 401: bad key; expected an answer", 1),
        (failed(404, "no such model"), "got 404: no such model", 1),
        (failed(500, "down"), "got 500: down", 6),
        (failed(429, "later", **{"Retry-After": "3600"}), "got 429 and a wait of more than two", 1),
        ((302, {"Location": "http://127.0.0.1:1/elsewhere"}, b""), "got 302", 1),
    ],
)  # fmt: skip
def test_a_service_that_does_not_answer_is_an_error_and_no_score(service, reply, text, num_tries):
    service.default = reply
    with pytest.raises(RunError) as error:
        scored(spec(service), "yes")
    assert f"judge big at {service.address}: {text}" in str(error.value)
    assert len(service.seen) == num_tries


def test_a_service_that_is_not_there_is_an_error(service):
    grader = spec(service, endpoint="http://127.0.0.1:1/v1", timeout_seconds=1)
    with pytest.raises(RunError, match="judge big at http://127.0.0.1:1/v1: got URLError"):
        scored(grader, "yes")


def test_what_was_answered_before_an_error_is_kept(service, monkeypatch):
    monkeypatch.setattr(kept, "TOGETHER", 1)
    service.replies = [said('{"result": 1}'), failed(401)]
    with pytest.raises(RunError):
        scored(spec(service), "yes", "no")
    assert [s.score for s in scored(spec(service), "yes", "no")] == [1.0, 0.5]
    assert len(service.seen) == 3


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (failed(400, "too long"), "the judge refused the question: too long"),
        (said("fine"), "the judge gave no number: 'fine'"),
        (said(None), "the judge said nothing (no content)"),
        ((200, {}, {"choices": [{"message": {"content": None, "refusal": "I won't"}}]}),
         "the judge said nothing (I won't)"),
    ],
)  # fmt: skip
def test_a_question_without_an_answer_fails_its_row_alone(service, reply, why):
    service.replies = [said('{"result": 1}'), reply, said('{"result": 0.25}')]
    first, second, third = scored(spec(service), "a", "b", "c")
    assert (first.score, third.score) == (1.0, 0.25)
    assert (second.score, second.failure) == (0.0, why)


def test_a_row_whose_question_cannot_be_filled_is_not_asked(service):
    grader = spec(service, input=[{"role": "user", "content": "{{sample.output_json.x}}"}])
    bad, good = scored(grader, "no JSON", '{"x": 1}')
    assert bad.failure == "Expecting value: line 1 column 1 (char 0)"
    assert good.score == 0.5
    assert len(service.seen) == 1


def test_many_questions_are_asked_side_by_side_and_answered_in_order(service):
    outputs = [str(number) for number in range(70)]
    found = scored(spec(service, parallel=8), *outputs)
    assert [each.score for each in found] == [0.5] * 70
    asked = {body["messages"][1]["content"].splitlines()[1] for _, _, body in service.seen}
    assert asked == set(outputs)


def test_a_label_passes_or_not(service):
    grader = spec(service, type="label_model", labels=["good", "bad"], passing_labels=["good"])
    service.replies = [said('{"result": "good"}'), said("Bad."), said("maybe")]
    passed, rejected, unknown = scored(grader, "a", "b", "c")
    assert (passed.score, rejected.score, unknown.score) == (1.0, 0.0, 0.0)
    assert unknown.failure == "the judge gave none of the labels: 'maybe'"
    assert service.seen[0][2]["messages"][1]["content"].endswith('"result": one of "good", "bad"}')


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"endpoint": "ftp://x"}, "endpoint: got 'ftp://x' (str); expected an address such as"),
        ({"endpoint": "http://me:pw@x/v1"}, "expected an address without a password"),
        ({"range": [1, 1]}, "expected the smaller number first"),
        ({"input": []}, "input: got [] (list)"),
        ({"input": [{"role": "user", "content": "{{sample.output_text"}]}, "a }} for every {{"),
        ({"input": [{"role": "tool", "content": ""}]}, "input.0.role: got 'tool' (str)"),
        ({"sampling_params": {"temprature": 0}}, "sampling_params.temprature: got an unknown key"),
        ({"model": " "}, "expected the name of a model"),
        ({"type": "label_model", "labels": ["a"], "passing_labels": ["b"]},
         "passing_labels among the labels, unlike 'b'"),
    ],
)  # fmt: skip
def test_a_judge_that_cannot_be_built_says_why(service, keys, text):
    with pytest.raises(RecipeError) as error:
        graders.build(spec(service, **keys))
    assert text in str(error.value)


def test_a_key_that_is_not_set_is_an_error(service, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(RecipeError) as error:
        scored(spec(service, key_variable="MY_KEY"), "yes")
    assert "got MY_KEY, which is not set" in str(error.value)
    assert "hint: export MY_KEY=..." in str(error.value)


def test_a_local_judge_wants_somebody_to_open_it(service):
    with pytest.raises(RecipeError, match="got 'big', where no model can be opened"):
        scored(spec(service, endpoint=""), "yes")


def test_a_local_judge_is_asked_as_an_endpoint_is(service):
    class Local:
        identity = "local 1"

        def answer(self, questions, drawing):
            assert drawing == Drawing(max_tokens=5)
            return ['{"result": 1}' if "yes" in str(q) else Unanswered("?") for q in questions]

    opened = []
    means = Means(open_judge=lambda name: opened.append(name) or Local())
    grader = spec(service, endpoint="", sampling_params={"max_completions_tokens": 5})
    grading = graders.open(grader, means)
    found = grading.grade_all(["yes", "no"], ["", ""], [{"a": 1}, {"a": 1}])
    assert (found.scores.tolist(), found.failures) == ([1.0, 0.0], {1: "?"})
    assert opened == ["big"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"result": 0.5}', 0.5), ('{"result": "0.5"}', 0.5), ('{"result": 1} or {"result": 2}', 2),
        ('```json\n{"steps": [{"description": "1", "conclusion": "2"}], "result": 3}\n```', 3),
        ('{"a": {"b": 1}} {"result": -0.5}', -0.5), ("0.8", 0.8), ("Score: 4.", 4), ("-1", -1),
        ("I give it .5", 0.5),
    ],
)  # fmt: skip
def test_numbers_are_read(text, expected):
    assert number_in(text) == expected


@pytest.mark.parametrize(
    "text", ["", "good", "4 of 5", '{"result": true}', '{"result": NaN}', '{"result": null}', "v2"]
)
def test_no_number_is_none(text):
    with pytest.raises(ValueError, match="the judge gave no number"):
        number_in(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"result": "very good"}', "very good"), ("very good", "very good"), ("Good!", None),
        ("It is bad, I say.", "bad"), ("good or bad", None), ("BAD", "bad"), ("badly", None),
        ("'good'", "good"), ("**bad**", "bad"),
    ],
)  # fmt: skip
def test_labels_are_read(text, expected):
    labels = ["good", "very good", "bad"]
    if expected is None and text != "Good!":
        with pytest.raises(ValueError, match="none of the labels"):
            label_in(text, labels)
    else:
        assert label_in(text, labels) == (expected or "good")
