"""Tokens and masks, counted by hand with one token per byte; and templates that break the rule."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tunesmith.data.encoded import Encoded
from tunesmith.data.row import Conversation, Message, RowProblem, Text
from tunesmith.data.template import Renderer
from tunesmith.errors import DataError, ModelError
from tunesmith.testing.tiny import CHATML, IM_END, byte_tokenizer

# Qwen3 leaves the reasoning of all but the last answer out.
STRIPS_THINKING = (
    "{% for m in messages %}{% set c = m.content %}"
    "{% if m.role == 'assistant' and not loop.last and '</think>' in c %}"
    "{% set c = c.split('</think>')[-1] %}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ c }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENS_THINKING = CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif")
NO_STOP = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
STOP_AFTER_USERS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% if m.role == 'user' %}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TOOLS = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}


def talk(*turns: tuple[str, str] | Message, **more: object) -> Conversation:
    made = (turn if isinstance(turn, Message) else Message(*turn) for turn in turns)
    return Conversation(tuple(made), **more)


ONE = talk(("user", "q"), ("assistant", "yes"))
TWO = talk(("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "bc"))


def trained_text(renderer: Renderer, encoded: Encoded) -> list[str]:
    return [text for text, trained in renderer.explain(encoded) if trained]


def test_the_mask_of_one_answer_by_hand(renderer: Renderer) -> None:
    encoded = renderer.encode(ONE)
    start, end = 256, 257
    prompt = [start, *b"user\nq", end, *b"\n", start, *b"assistant\n"]
    assert encoded.input_ids.tolist() == [*prompt, *b"yes", end, *b"\n"]
    assert encoded.trained.tolist() == [False] * len(prompt) + [True] * 4 + [False]
    assert encoded.prompt_tokens == len(prompt) == 20
    assert encoded.input_ids.dtype == np.int32
    assert not encoded.truncated


def test_the_mask_of_two_answers_by_hand(renderer: Renderer) -> None:
    encoded = renderer.encode(TWO)
    assert renderer.explain(encoded) == [
        ("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", False),
        ("a<|im_end|>", True),
        ("\n<|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\n", False),
        ("bc<|im_end|>", True),
        ("\n", False),
    ]
    # 20 to the first answer, 2 of it, 1 + 20 between, 3 of the second, 1 behind.
    assert np.flatnonzero(encoded.trained).tolist() == [20, 21, 43, 44, 45]
    assert encoded.prompt_tokens == 43


@pytest.mark.parametrize(
    ("train_on", "weights", "expected"),
    [
        ("assistant", (None, None), ["a<|im_end|>", "bc<|im_end|>"]),
        ("assistant", (1.0, 1.0), ["a<|im_end|>", "bc<|im_end|>"]),
        ("assistant", (0.0, None), ["bc<|im_end|>"]),
        ("assistant", (1.0, 0.0), ["a<|im_end|>"]),
        ("last", (None, None), ["bc<|im_end|>"]),
        ("last", (0.0, 1.0), ["bc<|im_end|>"]),
    ],
)
def test_train_on_and_weights_choose_the_answers(
    make_renderer, train_on: str, weights: tuple, expected: list[str]
) -> None:
    renderer = make_renderer(train_on=train_on)
    row = talk(
        ("user", "q"),
        Message("assistant", "a", weight=weights[0]),
        ("user", "r"),
        Message("assistant", "bc", weight=weights[1]),
    )
    assert trained_text(renderer, renderer.encode(row)) == expected


def test_train_on_all_trains_every_token_but_the_first(make_renderer) -> None:
    encoded = make_renderer(train_on="all").encode(TWO)
    assert encoded.trained.tolist() == [False] + [True] * (len(encoded.input_ids) - 1)


def test_train_on_all_still_leaves_out_what_has_no_weight(make_renderer) -> None:
    renderer = make_renderer(train_on="all")
    row = talk(("user", "q"), Message("assistant", "a", weight=0.0), *TWO.messages[2:])
    untrained = [text for text, trained in renderer.explain(renderer.encode(row)) if not trained]
    assert untrained == ["<|im_start|>", "a<|im_end|>"]


@pytest.mark.parametrize("train_on", ["assistant", "last"])
def test_a_row_that_trains_nothing_is_bad(make_renderer, train_on: str) -> None:
    row = talk(("user", "q"), Message("assistant", "a", weight=0.0))
    with pytest.raises(RowProblem, match="no token to train on; expected an answer with a weight"):
        make_renderer(train_on=train_on).encode(row)


def test_the_stop_token_is_trained_and_what_follows_it_is_not(renderer: Renderer) -> None:
    encoded = renderer.encode(ONE)
    last = np.flatnonzero(encoded.trained)[-1]
    assert encoded.input_ids[last] == IM_END
    assert last == len(encoded.input_ids) - 2


def test_a_text_is_trained_whole_and_ends(make_renderer) -> None:
    renderer = make_renderer(train_on="last")
    encoded = renderer.encode(Text("hello"))
    assert encoded.input_ids.tolist() == [*b"hello", IM_END]
    assert encoded.trained.tolist() == [False] + [True] * 5
    assert encoded.prompt_tokens == 0


def test_a_text_that_ends_already_does_not_end_twice(renderer: Renderer) -> None:
    assert renderer.encode(Text("hi<|im_end|>")).input_ids.tolist() == [*b"hi", IM_END]


def bytes_and(
    special: list[str], merges: list[tuple[str, str]], **more: object
) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes in sorted order, then the merged pairs, then special tokens."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    vocabulary = {piece: rank for rank, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(special)
    if special[0] == "<s>":
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", len(pieces))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, **more)


def bos_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    """Bytes, with a BOS (256) that the tokenizer adds by itself, and an end (257)."""
    return bytes_and(["<s>", "</s>"], [], bos_token="<s>", eos_token="</s>", chat_template=template)


def test_a_bos_that_the_tokenizer_adds_comes_once() -> None:
    renderer = Renderer(bos_tokenizer(None), frozenset({257}))
    plain = talk(("user", "q"), ("assistant", "a"), kind="completion")
    for content in (Text("hi"), Text("<s>hi"), plain):
        ids = renderer.encode(content).input_ids.tolist()
        assert ids.count(256) == 1
        assert ids[0] == 256
        assert ids[-1] == 257
    encoded = renderer.encode(plain)
    assert encoded.trained.tolist() == [False, False, True, True]
    assert renderer.prompt(plain) == encoded.input_ids[:2].tolist()


def test_a_template_that_writes_the_bos_gets_no_second() -> None:
    renderer = Renderer(bos_tokenizer("{{ bos_token }}" + CHATML), frozenset({257}), "all")
    row = talk(("user", "q"), ("assistant", "a"))
    with pytest.raises(RowProblem, match="no stop token"):
        renderer.encode(TWO)
    ids = renderer.encode(row).input_ids.tolist()
    assert ids.count(256) == 1
    assert renderer.prompt(row)[0] == 256


def test_without_a_template_a_completion_is_prompt_answer_and_end(make_renderer) -> None:
    renderer = make_renderer(template=None)
    row = talk(("user", "1+1="), ("assistant", "2"), kind="completion")
    encoded = renderer.encode(row)
    assert encoded.input_ids.tolist() == [*b"1+1=2", IM_END]
    assert encoded.trained.tolist() == [False] * 4 + [True] * 2
    assert encoded.prompt_tokens == 4
    assert renderer.prompt(row) == list(b"1+1=")


def test_without_a_template_alpaca_has_its_own_prompt(make_renderer) -> None:
    renderer = make_renderer(template=None)
    row = talk(("user", "i"), ("assistant", "o"), kind="completion", plain_prompt="### i\n")
    assert renderer.encode(row).input_ids.tolist() == [*b"### i\no", IM_END]


@pytest.mark.parametrize("use", ["encode", "prompt"])
def test_without_a_template_chat_is_refused_for_the_whole_run(make_renderer, use: str) -> None:
    with pytest.raises(DataError, match="got a base without a chat template") as got:
        getattr(make_renderer(template=None), use)(ONE)
    assert "-Instruct" in got.value.hint


def test_with_a_template_a_completion_is_a_user_and_an_assistant_turn(renderer: Renderer) -> None:
    row = talk(*ONE.messages, kind="completion", plain_prompt="unused")
    assert renderer.encode(row).input_ids.tolist() == renderer.encode(ONE).input_ids.tolist()


def test_truncation_cuts_the_end_and_says_so(make_renderer) -> None:
    renderer = make_renderer(max_tokens=22, overlong="truncate")
    encoded = renderer.encode(ONE)
    assert len(encoded.input_ids) == 22
    assert encoded.truncated
    assert trained_text(renderer, encoded) == ["ye"]


def test_truncation_that_leaves_no_answer_is_a_bad_row(make_renderer) -> None:
    with pytest.raises(RowProblem, match="no token to train on within the first 20") as got:
        make_renderer(max_tokens=20, overlong="truncate").encode(ONE)
    assert got.value.hint == "raise data.max_tokens"


@pytest.mark.parametrize("overlong", ["error", "drop"])
def test_without_truncation_the_row_stays_whole(make_renderer, overlong: str) -> None:
    assert len(make_renderer(max_tokens=8, overlong=overlong).encode(ONE).input_ids) == 25


def test_a_template_that_strips_history_is_refused_with_a_way_out(make_renderer) -> None:
    row = talk(
        ("user", "q"),
        ("assistant", "<think>x</think>a"),
        ("user", "r"),
        ("assistant", "<think>y</think>b"),
    )
    with pytest.raises(RowProblem, match="changes earlier turns when later ones are add") as got:
        make_renderer(STRIPS_THINKING).encode(row)
    assert "train_on: last" in got.value.hint
    with pytest.raises(RowProblem, match="changes earlier turns"):
        make_renderer(STRIPS_THINKING, train_on="all").encode(row)


def test_a_template_that_adds_to_the_last_answer_alone_is_refused_too(make_renderer) -> None:
    # Qwen3 writes an empty <think> part, but only into the last answer.
    adds = STRIPS_THINKING.replace(
        "{{ c }}", "{{ '<think></think>' if m.role == 'assistant' and loop.last else '' }}{{ c }}"
    )
    with pytest.raises(RowProblem, match="changes earlier turns when later ones are added") as got:
        make_renderer(adds).encode(TWO)
    assert "message 2: inference would see '<think></think>a" in got.value.got
    assert "train_on: last" in got.value.hint
    last = make_renderer(adds, train_on="last")
    assert trained_text(last, last.encode(TWO)) == ["<think></think>bc<|im_end|>"]


def test_a_template_that_strips_history_trains_the_last_answer(make_renderer) -> None:
    renderer = make_renderer(STRIPS_THINKING, train_on="last")
    row = talk(("user", "q"), ("assistant", "<think>x</think>a"), *TWO.messages[2:])
    encoded = renderer.encode(row)
    assert trained_text(renderer, encoded) == ["bc<|im_end|>"]
    assert "<think>" not in renderer.tokenizer.decode(encoded.input_ids)
    one = talk(("user", "q"), ("assistant", "<think>x</think>a"))
    assert trained_text(renderer, renderer.encode(one)) == ["<think>x</think>a<|im_end|>"]


def test_a_template_that_opens_answers_its_own_way_is_refused(make_renderer) -> None:
    for train_on in ("assistant", "last", "all"):
        renderer = make_renderer(OPENS_THINKING, train_on=train_on)
        with pytest.raises(RowProblem, match="opens an answer otherwise than it writes one") as got:
            renderer.encode(ONE)
        assert r"'<think>\n'" in got.value.got
    row = talk(("user", "q"), ("assistant", "<think>\nx</think>a"))
    assert trained_text(renderer, make_renderer(OPENS_THINKING).encode(row)) == [
        "x</think>a<|im_end|>"
    ]


def test_a_template_without_a_stop_gets_one_behind_the_last_answer(make_renderer) -> None:
    renderer = make_renderer(NO_STOP)
    assert trained_text(renderer, renderer.encode(ONE)) == ["yes\n<|im_end|>"]


@pytest.mark.parametrize(
    ("template", "last"), [(NO_STOP, "bc\n<|im_end|>"), (STOP_AFTER_USERS, "bc<|im_end|>")]
)
def test_a_template_without_a_stop_cannot_train_earlier_answers(
    make_renderer, template: str, last: str
) -> None:
    with pytest.raises(RowProblem, match="writes no stop token behind message 2") as got:
        make_renderer(template).encode(TWO)
    assert "train_on: last" in got.value.hint
    renderer = make_renderer(template, train_on="last")
    assert trained_text(renderer, renderer.encode(TWO)) == [last]


def test_the_stop_token_in_an_answer_is_refused(renderer: Renderer) -> None:
    with pytest.raises(RowProblem, match=r"the stop token '<\|im_end\|>' inside assistant mess"):
        renderer.encode(talk(("user", "q"), ("assistant", "a<|im_end|>b")))


@pytest.mark.parametrize(
    ("template", "row", "lost"),
    [
        (
            "{% for m in messages %}{% if m.role != 'system' %}<|im_start|>{{ m.content }}"
            "<|im_end|>"
            "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}",
            talk(("system", "be kind"), ("user", "q"), ("assistant", "a")),
            "the system message 1",
        ),
        (CHATML, talk(("user", "q"), Message("assistant", "", (CALL,))), "the call of 'add' in"),
        (CHATML, talk(("user", "q"), ("assistant", "a"), tools=(TOOL,)), "the tool 'add'"),
        (
            CHATML,
            talk(("user", "q"), Message("assistant", "a", reasoning="since")),
            "the reasoning of the assistant message 2",
        ),
        # The name of the tool stands in the text, but not in the answer.
        (
            TOOLS.replace("{{ c.function | tojson }}", ""),
            talk(("user", "q"), Message("assistant", "", (CALL,)), tools=(TOOL,)),
            "the call of 'add' in the assistant message 2",
        ),
        (
            TOOLS.replace("{{ m.content }}", "{{ '' if m.tool_calls else m.content }}"),
            talk(("user", "q"), Message("assistant", "I look.", (CALL,)), tools=(TOOL,)),
            "the assistant message 2",
        ),
        (
            "{% for m in messages %}{% if m.role != 'tool' %}"
            "<|im_start|>{{ m.role }}{{ m.content }}"
            "<|im_end|>{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}",
            talk(("user", "q"), ("assistant", "a"), ("tool", "42"), ("assistant", "b")),
            "the tool message 3",
        ),
    ],
)
def test_a_template_that_drops_what_the_row_says_is_refused(
    make_renderer, template: str, row: Conversation, lost: str
) -> None:
    with pytest.raises(RowProblem, match=f"a chat template that leaves out {lost}"):
        make_renderer(template).encode(row)


def test_a_template_that_refuses_the_turns_is_quoted(make_renderer) -> None:
    refuses = "{{ raise_exception('no system please') }}"
    with pytest.raises(RowProblem, match=r"the chat template refuses.*no system please"):
        make_renderer(refuses).encode(ONE)


def test_tools_and_calls_reach_the_template_as_objects(make_renderer) -> None:
    renderer = make_renderer(TOOLS)
    row = talk(
        ("user", "1+2?"),
        Message("assistant", "", (CALL,)),
        ("tool", '{"sum":  3}'),
        ("assistant", "3"),
        tools=(TOOL,),
    )
    call = '<call>{"name": "add", "arguments": {"a": 1}}</call>'
    assert trained_text(renderer, renderer.encode(row)) == [f"{call}<|im_end|>", "3<|im_end|>"]
    ended = Conversation(row.messages[:2], row.tools)
    assert renderer.reference(ended) == call
    assert json.dumps(TOOL) in renderer.tokenizer.decode(renderer.prompt(row))


def test_a_template_that_adds_arguments_to_a_text_gets_them_as_json(make_renderer) -> None:
    renderer = make_renderer(
        TOOLS.replace("{{ c.function | tojson }}", "{{ c.function.name + c.function.arguments }}")
    )
    row = talk(("user", "q"), Message("assistant", "", (CALL,)), tools=(TOOL,))
    expected = ['<call>add{"a": 1}</call><|im_end|>']
    assert trained_text(renderer, renderer.encode(row)) == expected


def test_a_template_cannot_reach_beyond_its_text(make_renderer) -> None:
    # transformers renders with jinja2's ImmutableSandboxedEnvironment; a plain one would run this.
    for escape in (
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append(1) }}",
    ):
        with pytest.raises(RowProblem, match="the chat template refuses"):
            make_renderer(escape + CHATML).encode(ONE)


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and one merge: two line feeds are one token (256). The end is 258."""
    special = ["<|im_start|>", "<|im_end|>"]
    feed = "\u010a"
    return bytes_and(special, [(feed, feed)], eos_token="<|im_end|>", chat_template=CHATML)


def merging_renderer(train_on: str = "assistant") -> Renderer:
    return Renderer(merging_tokenizer(), frozenset({258}), train_on)


def test_a_merge_across_the_start_of_the_answer_is_undone() -> None:
    renderer = merging_renderer()
    assert renderer.tokenizer("\n\n")["input_ids"] == [256]
    row = talk(("user", "q"), ("assistant", "\nyes"))
    encoded = renderer.encode(row)
    prompt = renderer.prompt(row)
    assert encoded.input_ids[: len(prompt)].tolist() == prompt
    tokens = renderer.tokenizer.convert_ids_to_tokens(encoded.input_ids[len(prompt) :])
    assert tokens == ["\u010a", "y", "e", "s", "<|im_end|>", "\u010a"]
    assert trained_text(renderer, encoded) == ["\nyes<|im_end|>"]


def test_a_merge_in_an_earlier_answer_is_refused_and_the_last_can_be_trained() -> None:
    row = talk(("user", "q"), ("assistant", "\na"), ("user", "r"), ("assistant", "\nb"))
    with pytest.raises(RowProblem, match=r"merges with the prompt \(answer 1\)") as got:
        merging_renderer().encode(row)
    assert "remove white space" in got.value.hint
    last = merging_renderer("last")
    encoded, prompt = last.encode(row), last.prompt(row)
    assert encoded.input_ids[: len(prompt)].tolist() == prompt
    assert 256 in prompt
    assert trained_text(last, encoded) == ["\nb<|im_end|>"]


CONTENT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    st.lists(st.tuples(CONTENT, CONTENT.filter(str.strip)), min_size=1, max_size=3),
    st.sampled_from(["assistant", "last", "all"]),
)
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_what_inference_sees_begins_every_row(pairs: list[tuple[str, str]], train_on: str) -> None:
    turns = [
        Message(role, text)
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    row = Conversation(tuple(turns))
    renderer = Renderer(byte_tokenizer(), frozenset({IM_END}), train_on)
    encoded = renderer.encode(row)
    ids = encoded.input_ids.tolist()
    prompt = renderer.prompt(row)
    assert ids[: len(prompt)] == prompt
    assert encoded.prompt_tokens == len(prompt)
    assert not encoded.trained[0]
    answers = [pair[1] + "<|im_end|>" for pair in pairs]
    if train_on != "all":
        expected = answers if train_on == "assistant" else answers[-1:]
        assert trained_text(renderer, encoded) == expected
    assert renderer.tokenizer.decode(ids) == renderer.tokenizer.apply_chat_template(
        [message.as_dict() for message in turns], tokenize=False
    )


def test_a_prompt_may_end_with_the_question(renderer: Renderer) -> None:
    assert renderer.prompt(talk(("user", "q"))) == renderer.prompt(ONE)
    assert renderer.reference(TWO) == "bc"


def test_truncation_set_in_the_tokenizer_does_not_apply(renderer: Renderer) -> None:
    whole = renderer.encode(ONE).input_ids.tolist()
    renderer.tokenizer.backend_tokenizer.enable_truncation(5)
    assert renderer.encode(ONE).input_ids.tolist() == whole


def test_the_fingerprint_changes_with_all_that_decides_the_tokens(make_renderer) -> None:
    prints = {
        make_renderer(**options).fingerprint
        for options in (
            {},
            {"template": None},
            {"template": NO_STOP},
            {"train_on": "last"},
            {"max_tokens": 100},
            {"overlong": "truncate"},
        )
    }
    prints.add(Renderer(byte_tokenizer(), frozenset({IM_END, 3})).fingerprint)
    prints.add(merging_renderer().fingerprint)
    assert len(prints) == 8


def test_the_fingerprint_stays_whatever_was_tokenised(renderer: Renderer) -> None:
    before = renderer.fingerprint
    renderer.tokenizer(["a", "bb"], padding=True, truncation=True, max_length=3)
    assert renderer.fingerprint == before


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no eos token and no stop ids"):
        Renderer(tokenizer, frozenset())
    assert Renderer(tokenizer, frozenset({258, 257})).encode(Text("a")).input_ids[-1] == 257
