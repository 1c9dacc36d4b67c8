"""Template parity: what is trained, what inference sees and the mask agree, family by family.

The prompt that inference sees is rendered here by transformers itself, apart from the renderer.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.data.encoded import Encoded
from tunesmith.data.row import Conversation, Message, RowProblem
from tunesmith.data.template import Renderer
from tunesmith.errors import ModelError
from tunesmith.testing.templates import FAMILIES, family_tokenizer, stop_ids

TEMPLATES = Path(__file__).parent / "templates"

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
    },
}
CALL = {
    "type": "function",
    "function": {"name": "add", "arguments": {"a": 1, "why": 'caf\u00e9 "x"'}},
}
USER, ANSWER = Message("user", "What is it?"), Message("assistant", "It is one.")
AGAIN, LAST = Message("user", "And now?"), Message("assistant", "Two of them.")
SYSTEM = Message("system", "Speak plainly.")
THOUGHT = "<think>\nBecause.\n</think>\n\n"

SHAPES = {
    "single": Conversation((USER, ANSWER)),
    "multi": Conversation((USER, ANSWER, AGAIN, LAST)),
    "system": Conversation((SYSTEM, USER, ANSWER)),
    "system multi": Conversation((SYSTEM, USER, ANSWER, AGAIN, LAST)),
    "empty system": Conversation((Message("system", ""), USER, ANSWER)),
    "tool": Conversation((USER, Message("assistant", "", (CALL,))), (TOOL,)),
    "tool loop": Conversation(
        (USER, Message("assistant", "", (CALL,)), Message("tool", '{"is": "3"}'), ANSWER), (TOOL,)
    ),
    "reasoning": Conversation((USER, Message("assistant", THOUGHT + "Yes."))),
    "reasoning apart": Conversation((USER, Message("assistant", "Yes.", reasoning="Because."))),
    "reasoning multi": Conversation(
        (
            USER,
            Message("assistant", THOUGHT + "Yes."),
            AGAIN,
            Message("assistant", THOUGHT + "No."),
        )
    ),
    "weight 0 first": Conversation((USER, Message("assistant", "Hm.", weight=0.0), AGAIN, LAST)),
    "weight 0 last": Conversation((USER, ANSWER, AGAIN, Message("assistant", "Hm.", weight=0.0))),
    "unicode": Conversation(
        (
            Message("user", "\u4f60\u597d e\u0301"),
            Message("assistant", "\U0001f600 n\u0303 \u2028 \ufeffend"),
        )
    ),
    "space": Conversation((Message("user", " q \n"), Message("assistant", "\n two\n\n"))),
}

NO_TOOLS = {"tool": "leaves out|only user and assistant", "tool loop": "leaves out|only user and"}
NO_THOUGHT = {"reasoning apart": "leaves out the reasoning"}
HISTORY = "changes earlier turns when later ones are added"
REFUSED: dict[str, dict[str, str]] = {
    "chatml": NO_TOOLS | NO_THOUGHT,
    "chatml_default_system": NO_TOOLS | NO_THOUGHT,
    "llama3": NO_THOUGHT,
    "llama3_dated": NO_TOOLS | NO_THOUGHT,
    "mistral": NO_TOOLS | NO_THOUGHT,
    "mistral_last_user": NO_TOOLS | NO_THOUGHT | {"system multi": HISTORY},
    "gemma": NO_TOOLS
    | NO_THOUGHT
    | dict.fromkeys(("system", "system multi", "empty system"), "there is no system role"),
    "phi": NO_TOOLS | NO_THOUGHT,
    # An answer without reasoning gets an empty <think> part while it is the last.
    "qwen3": dict.fromkeys(("multi", "system multi", "tool loop", "weight 0 last"), HISTORY)
    | {"reasoning multi": HISTORY},
    "deepseek_r1": NO_TOOLS | NO_THOUGHT | {"reasoning multi": HISTORY},
}
"""By family and shape, what the error says with `data.train_on: assistant`."""


def make(name: str, train_on: str = "assistant", change: tuple[str, str] = ("", "")) -> Renderer:
    family = FAMILIES[name]
    template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8").replace(*change)
    tokenizer = family_tokenizer(family, template)
    return Renderer(tokenizer, stop_ids(family, tokenizer), train_on)


def inference_text(renderer: Renderer, row: Conversation, end: int) -> str:
    """The prompt of the answer at `end`, as transformers writes it on the day of training."""
    messages = [message.as_dict() for message in row.messages[:end]]
    template = renderer.tokenizer.chat_template
    return renderer.tokenizer.apply_chat_template(
        messages,
        tools=list(row.tools) or None,
        chat_template=template.replace("strftime_now('%d %b %Y')", "'01 Jan 2026'"),
        tokenize=False,
        add_generation_prompt=True,
    )


def spans(encoded: Encoded) -> list[tuple[int, int]]:
    """Runs of trained tokens."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], encoded.trained, [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def wanted(row: Conversation, train_on: str) -> list[int]:
    """Indexes of the answers that are trained."""
    answers = [i for i, m in enumerate(row.messages) if m.role == "assistant"]
    answers = answers[-1:] if train_on == "last" else answers
    return [i for i in answers if row.messages[i].weight != 0]


def check_parity(name: str, renderer: Renderer, row: Conversation) -> list[str]:
    """Checks the example of a row against inference; returns the trained texts."""
    encoded = renderer.encode(row)
    ids = encoded.input_ids.tolist()
    decode = renderer.tokenizer.decode
    found, texts = spans(encoded), []
    for index, (start, end) in zip(wanted(row, renderer.train_on), found, strict=True):
        prompt = inference_text(renderer, row, index)
        prompt_ids = renderer.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        assert ids[:start] == prompt_ids, "inference sees other tokens than stand before the answer"
        assert decode(ids[:start]) == prompt
        assert ids[end - 1] in renderer.stop_ids, "the stop token is not trained"
        assert not renderer.stop_ids & set(ids[start : end - 1]), "trained beyond the stop token"
        texts.append(decode(ids[start:end]))
        check_whole(row.messages[index], texts[-1])
    if row.messages[-1].weight != 0:
        assert renderer.prompt(row) == ids[: encoded.prompt_tokens]
    bos = renderer.tokenizer.bos_token_id
    assert bos is None or (ids[0] == bos and ids.count(bos) == 1)
    return texts


def check_whole(message: Message, text: str) -> None:
    """Checks that a trained text says all that the message says."""
    close = "".join(text.split())
    for part in (message.content, message.reasoning):
        assert "".join(part.split()) in close
    for call in message.tool_calls:
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        assert arguments in text


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_training_and_inference_agree_or_the_row_is_refused(name: str, shape: str) -> None:
    renderer, row = make(name), SHAPES[shape]
    if expected := REFUSED[name].get(shape):
        with pytest.raises(RowProblem, match=expected):
            renderer.encode(row)
        return
    texts = check_parity(name, renderer, row)
    for text, index in zip(texts, wanted(row, "assistant"), strict=True):
        message = row.messages[index]
        said = text.removesuffix(FAMILIES[name].stop)
        assert len(said) < len(text)
        if name == "qwen3":
            thought, _, said = said.rpartition("</think>\n\n")
            assert message.reasoning in thought
            said = thought + "</think>\n\n" + said if "<think>" in message.content else said
        if not message.tool_calls:
            assert said.strip() == message.content.strip()
        else:
            assert '"why": "caf\u00e9 \\"x\\""' in said


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_with_the_last_answer_alone_no_history_is_in_the_way(name: str, shape: str) -> None:
    row, refused = SHAPES[shape], dict(REFUSED[name])
    if shape == "weight 0 last":
        refused[shape] = "no token to train on"
    expected = refused.get(shape, HISTORY)
    if expected == HISTORY:
        assert len(check_parity(name, make(name, "last"), row)) == 1
        return
    with pytest.raises(RowProblem, match=expected):
        make(name, "last").encode(row)


def test_the_trained_text_of_each_family_by_hand() -> None:
    row = SHAPES["multi"]
    assert {name: check_parity(name, make(name), row) for name in ("llama3", "mistral", "phi")} == {
        "llama3": ["It is one.<|eot_id|>", "Two of them.<|eot_id|>"],
        "mistral": [" It is one.</s>", " Two of them.</s>"],
        "phi": ["It is one.<|end|>", "Two of them.<|end|>"],
    }
    one = SHAPES["single"]
    assert check_parity("gemma", make("gemma"), one) == ["It is one.<end_of_turn>"]
    assert check_parity("qwen3", make("qwen3"), one) == [
        "<think>\n\n</think>\n\nIt is one.<|im_end|>"
    ]
    assert check_parity("qwen3", make("qwen3"), SHAPES["reasoning apart"]) == [
        "<think>\nBecause.\n</think>\n\nYes.<|im_end|>"
    ]


@pytest.mark.parametrize("name", ["qwen3", "deepseek_r1"])
def test_reasoning_left_out_of_the_history_names_the_way_out(name: str) -> None:
    with pytest.raises(RowProblem) as got:
        make(name).encode(SHAPES["reasoning multi"])
    assert "data.train_on: last" in got.value.hint
    texts = check_parity(name, make(name, "last"), SHAPES["reasoning multi"])
    assert texts[0].startswith("<think>\nBecause.\n</think>\n\nNo.")


@pytest.mark.parametrize("name", ["qwen3", "llama3"])
def test_a_stop_token_anywhere_in_an_answer_is_refused(name: str) -> None:
    stop = FAMILIES[name].stop
    called = {"type": "function", "function": {"name": "add", "arguments": {"a": [f"x{stop}"]}}}
    for answer in (
        Message("assistant", "", (called,)),
        Message("assistant", "a", reasoning=f"since {stop}"),
        Message("assistant", f"a{stop}b"),
    ):
        with pytest.raises(RowProblem, match="the stop token .* inside assistant message 2"):
            make(name).encode(Conversation((USER, answer), (TOOL,)))


def test_arguments_that_a_template_leaves_out_are_noticed() -> None:
    renderer = make("llama3", change=("(call.arguments | tojson)", "'{}'"))
    with pytest.raises(RowProblem, match="leaves out 'why' of the call of 'add' in the assistant"):
        renderer.encode(SHAPES["tool"])


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
MARKED = st.one_of(
    TEXT, st.sampled_from(["<think>a</think>b", "</think>", "<|im_end|>", "<|eot_id|>"])
)
THOUGHTS = st.sampled_from(["", "", "since <|im_end|>", "so"])
ANSWERS = MARKED.filter(str.strip)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """One to three pairs, with system messages, reasoning, tools and weights here and there."""
    turns = [Message("system", draw(TEXT))] if draw(st.booleans()) else []
    tools = (TOOL,) if draw(st.booleans()) else ()
    for _ in range(draw(st.integers(1, 3))):
        turns.append(Message("user", draw(MARKED)))
        if tools and draw(st.booleans()):
            called = {"name": "add", "arguments": {"a": draw(MARKED)}}
            turns.append(
                Message("assistant", draw(TEXT), ({"type": "function", "function": called},))
            )
            turns.append(Message("tool", draw(TEXT)))
        turns.append(
            Message(
                "assistant",
                draw(ANSWERS),
                weight=draw(st.sampled_from([None, None, 1.0, 0.0])),
                reasoning=draw(THOUGHTS),
            )
        )
    return Conversation(tuple(turns), tools)


@given(st.sampled_from(sorted(FAMILIES)), conversations(), st.sampled_from(["assistant", "last"]))
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_accepted_agrees_with_inference(
    name: str, row: Conversation, train_on: str
) -> None:
    renderer = make(name, train_on)
    try:
        check_parity(name, renderer, row)
    except RowProblem:
        return


def test_the_day_of_training_is_fixed() -> None:
    renderer = make("llama3_dated")
    text = renderer.tokenizer.decode(renderer.encode(SHAPES["single"]).input_ids)
    assert "Today is 01 Jan 2026." in text
    assert renderer.writes_day
    assert not make("llama3").writes_day


@pytest.mark.parametrize("use", ["encode", "prompt", "look_ahead"])
def test_a_template_beyond_its_limits_ends_the_run_not_the_row(use: str) -> None:
    loops = "{% for a in range(99999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
    renderer = make("chatml", change=("{%- if add", loops + "{%- if add"))
    rows = [SHAPES["single"]] if use == "look_ahead" else SHAPES["single"]
    with pytest.raises(ModelError, match="chat template of .*more than 1 s of processor time"):
        getattr(renderer, use)(rows)


def test_rows_rendered_ahead_are_those_rendered_one_by_one() -> None:
    for name in ("qwen3", "llama3", "gemma"):
        ahead, alone = make(name), make(name)
        ahead.look_ahead(list(SHAPES.values()))
        for shape, row in SHAPES.items():
            try:
                expected = alone.encode(row)
            except RowProblem as problem:
                with pytest.raises(RowProblem, match=re.escape(problem.got)):
                    ahead.encode(row)
            else:
                assert ahead.encode(row).input_ids.tolist() == expected.input_ids.tolist(), shape
