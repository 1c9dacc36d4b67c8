"""The process that renders templates: equal to transformers, limited, gone when it should be."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers.utils import chat_template_utils

from tunesmith.data import sandbox, sandbox_child
from tunesmith.data.sandbox import Asked, Program, Refused, TooLarge
from tunesmith.errors import MachineError, ModelError

USER = {"role": "user", "content": "hi"}
CUT = [(1, False)]

LONG = "{% for a in range(90000) %}{% for b in range(9000) %}{% endfor %}{% endfor %}"
BOMBS = {
    "nested loops": (LONG, "more than 1 s of processor time"),
    "loops in a macro": (
        "{% macro f(n) %}{% for a in range(99999) %}{{ f(n) if n > 9 }}{% endfor %}{% endmacro %}"
        "{% for a in range(99999) %}{% set x = f(1) %}{% endfor %}",
        "more than 1 s of processor time",
    ),
    "one long text": ("{{ messages[0].role * 5000000 }}", "more than 16 million characters"),
    "many pieces": (
        "{% for a in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
        "more than 16 million characters",
    ),
    "one long constant": ("{{ 'a' * 100000000 }}", "more than 256 MiB of memory"),
    "a text beyond memory": ("{{ 'a' * 10000000000 }}", "more than 256 MiB of memory"),
    "a list beyond memory": ("{% set x = [0] * 1000000000 %}", "more than 256 MiB of memory"),
    "doubling": (
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}"
        "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "more than 256 MiB of memory",
    ),
    "a big power": ("{% set x = 10 ** (10 ** 8) %}", "more than 1 s of processor time"),
    "a big power as text": ("{{ (7 ** (10 ** 8)) % 3 }}", "more than 1 s of processor time"),
    "bomb in a message": (
        "{{ raise_exception('a' * 1000000000) }}",
        "more than 256 MiB of memory",
    ),
}


def program(source: str, now: str | None = None) -> Program:
    return Program(source, {"eos_token": "</s>", "bos_token": "<s>"}, now, "evil/model")


def render(source: str, messages: list | None = None, now: str | None = None) -> str | Refused:
    messages = messages or [USER]
    answer = program(source, now).render([Asked(messages, (), [(len(messages), False)])])[0]
    return answer[0] if isinstance(answer, list) else answer


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_an_error_that_names_the_template(name: str) -> None:
    source, limit = BOMBS[name]
    render("ready")
    started = child_seconds()
    with pytest.raises(ModelError, match=f"chat template of evil/model: got {limit}") as got:
        render(source)
    assert "stays within 1 s" in got.value.expected
    assert child_seconds() - started < 2.5
    assert render("{{ messages[0].content }}") == "hi"


def child_seconds() -> float:
    """Processor time of the children that ended and of the one that runs."""
    ended = os.times()
    child = sandbox._PROCESS._child
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split() if child else []
    running = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if child else 0.0
    return ended.children_user + ended.children_system + running


def test_a_second_of_each_text_not_of_all_of_them() -> None:
    source = (
        "{% for a in range(4500) %}{% for b in range(1000) %}{% endfor %}{% endfor %}"
        "{{ messages | length }}"
    )
    started = child_seconds()
    cuts = [(n, False) for n in range(1, 31)]
    texts = program(source).render([Asked([USER] * 30, (), cuts)])[0]
    assert texts == [str(n) for n in range(1, 31)]
    assert child_seconds() - started > sandbox_child.MAX_SECONDS


ESCAPES = (
    "{{ ''.__class__.__mro__ }}",
    "{{ cycler.__init__.__globals__.os.popen('touch CANARY').read() }}",
    "{{ lipsum.__globals__['os'].system('touch CANARY') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ namespace(__class__=1) }}",
    "{{ dict.__class__ }}",
    "{{ joiner.__init__.__globals__.os.popen('touch CANARY') }}",
    "{{ strftime_now.__globals__ }}",
    "{{ raise_exception.__globals__['signal'] }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update(role='x') }}",
    "{{ messages[0].pop('role') }}",
    "{{ '{0.__class__.__base__.__subclasses__}'.format(1) }}",
    "{{ ('{0.__class__}' | attr('format'))(1).x.y }}",
    "{{ messages | map(attribute='__class__') | list | join }}{{ undefined.x }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends '/etc/passwd' %}",
    "{{ range(1000000) | list }}",
    "{{ 1 / 0 }}",
    "{{ [][5].x }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
)


@pytest.mark.parametrize("source", ESCAPES)
def test_a_way_out_is_refused(source: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    answer = render(source.replace("CANARY", str(canary)))
    # What is unsafe is refused, or undefined and so written as nothing.
    assert answer == "" or (isinstance(answer, Refused) and answer.says)
    assert not canary.exists()


FEATURES = """{{ bos_token }}{%- for m in messages if m.role != 'x' -%}
    {%- if loop.first -%}first{%- elif loop.index0 == 3 -%}{% break %}{%- else -%}{% continue %}
    {%- endif -%}
  [{{ m | tojson }}|{{ m | tojson(indent=2) }}|{{ m | tojson(ensure_ascii=true, sort_keys=true) }}]
    {{ m.content | trim | upper }} {{ m['content'].split('i')[0] }} {{ m.get('none', 'no') }}
{% endfor %}
  {% generation %}inside {{ messages | length }}{% endgeneration %}
{%- set ns = namespace(a=1, b=[]) %}{% set ns.a = ns.a + 1 %}{{ ns.a }}{{ dict(a=1, b=2) }}
{{- dict.fromkeys(['a'], 1) }}{{ messages[::-1] | map(attribute='role') | join(',') }}
{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ eos_token }}{{ pad_token is defined }}
{{ messages[0].thinking }}{{ '%05.2f' % 3.14159 }}{{ 3.0 }}{{ true }}{{ none }}{{ 10 ** 20 }}
{{ '<b>' | e }}{{ ['b', 'a'] | sort }}{{ {'k': 'v'} | items | list }}{{ 'a b' | wordcount }}
{%- macro f(x, y='z') -%}({{ x }}{{ y }}{{ caller() if caller }}){%- endmacro -%}
{% call f('c') %}called{% endcall %}{{ f('d') }}{{ "\\u00e9\\n" }}{{ lipsum is defined }}
{{ {'a': 1} | pprint }}{{ 'x' is string }}{{ messages is sequence }}{{ 'abc'[1:] }}\t
"""


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": " hi <&> \u4f60\u2028\U0001f600 "}],
        [
            {"role": "user", "content": "i"},
            {"role": "assistant", "content": "", "reasoning_content": "r"},
        ],
        [{"role": "assistant", "content": "o", "thinking": "t"}, USER, USER, USER, USER],
        [
            {
                "role": "user",
                "content": "lone \ud83d half",
                "tool_calls": [{"function": {"arguments": {"x": 1.5}}}],
            }
        ],
    ],
)
def test_texts_equal_those_of_transformers(messages: list) -> None:
    names = {"eos_token": "</s>", "bos_token": "<s>"}
    for source in (FEATURES, *TEMPLATES):
        expected, _ = chat_template_utils.render_jinja_template(
            [messages], chat_template=source, **names
        )
        assert render(source, messages) == expected[0]


TEMPLATES = [
    path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parent / "templates").glob("chatml*.jinja"))
]


def test_the_environment_is_that_of_transformers() -> None:
    theirs = chat_template_utils._compile_jinja_template("x").environment
    ours = sandbox_child.environment(None)
    assert type(theirs) is type(ours)
    for part in ("filters", "globals", "tests"):
        assert set(getattr(theirs, part)) == set(getattr(ours, part)), part
        same = {
            key
            for key, value in getattr(theirs, part).items()
            if getattr(value, "__module__", "").startswith("jinja2")
        }
        for key in same:
            assert getattr(theirs, part)[key] is getattr(ours, part)[key], (part, key)
    for option in ("trim_blocks", "lstrip_blocks", "keep_trailing_newline", "autoescape"):
        assert getattr(theirs, option) == getattr(ours, option)
    assert len(theirs.extensions) == len(ours.extensions)


def test_the_day_can_be_fixed() -> None:
    source = "{{ strftime_now('%d %b %Y') }}"
    assert render(source, now="2026-01-01") == "01 Jan 2026"
    assert render(source) == time.strftime("%d %b %Y")


def test_what_is_no_template_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"got no valid template \(line 3: .*endfor"):
        render("a\n{% for m in messages %}\n{% endif %}")
    with pytest.raises(ModelError, match="no valid template"):
        render("{{ " + "(" * 20000 + ")" * 20000 + " }}")
    with pytest.raises(ModelError, match=r"evil/model: got 65,537 bytes; expected at most 65,536"):
        program("a" * 65537)


def test_rows_are_answered_one_by_one_and_in_order() -> None:
    source = (
        "{{ raise_exception('no ' ~ messages[0].content) if messages[0].content == 'b' }}"
        "{{ messages[0].content }}"
    )
    rows = [Asked([{"role": "user", "content": text}], (), CUT) for text in ("a", "b", "c")]
    rows.insert(1, Asked([{"role": "user", "content": "x" * sandbox.MAX_ROW_BYTES}], (), CUT))
    long = Asked([{"role": "user", "content": "y" * sandbox.BATCH_BYTES}], (), CUT)
    answers = program(source).render([*rows, long, rows[0]])
    assert answers[:4] == [["a"], TooLarge(), Refused("no b"), ["c"]]
    assert answers[4:] == [["y" * sandbox.BATCH_BYTES], ["a"]]
    assert program(source).render([]) == []


def test_a_new_process_takes_the_place_of_one_that_died() -> None:
    one = program("{{ messages[0].content }}")
    one.render([Asked([USER], (), CUT)])
    os.kill(sandbox._PROCESS._child.pid, signal.SIGKILL)
    sandbox._PROCESS._child.wait()
    assert one.render([Asked([USER], (), CUT)]) == [["hi"]]


def test_the_process_has_no_environment_and_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    sandbox._PROCESS.end()
    render("x")
    child = Path(f"/proc/{sandbox._PROCESS._child.pid}")
    assert b"hf_secret" not in (child / "environ").read_bytes()
    limits = (child / "limits").read_text()
    assert re.search(r"Max open files +3 +3", limits)
    assert re.search(r"Max file size +0 +0", limits)
    assert len(list((child / "fd").iterdir())) == 3


PARENT = """
import os, sys
from tunesmith.data import sandbox
from tunesmith.data.sandbox import Asked, Program
one = Program("{{ 1 }}", {}, None, "x")
one.render([Asked([{"role": "user", "content": "a"}], (), [(1, False)])])
print(sandbox._PROCESS._child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_the_process_ends_with_its_parent(how: signal.Signals | None) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with parent:
        child = Path(f"/proc/{int(parent.stdout.readline())}")
        assert child.exists()
        if how is None:
            parent.stdin.close()
        else:
            parent.send_signal(how)
        parent.wait()
    for _ in range(1200):
        if not child.exists():
            return
        time.sleep(0.05)
    pytest.fail("the process that renders lives on")


def test_after_a_fork_each_side_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    render("x")
    first = sandbox._PROCESS._child
    monkeypatch.setattr(sandbox._PROCESS, "_parent", -1)
    assert render("{{ 5 }}") == "5"
    assert sandbox._PROCESS._child is not first
    assert first.poll() is None
    first.kill()
    first.communicate()


def test_a_process_that_cannot_start_is_the_machines_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sandbox._PROCESS.end()
    monkeypatch.setattr(sandbox, "CHILD", tmp_path / "not_there.py")
    with pytest.raises(MachineError, match="a process that ended with 2 before it answered"):
        render("x")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(MachineError, match="No such file"):
        render("x")
