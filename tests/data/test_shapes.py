"""What rows of each shape say, and the message for each way in which they can be wrong."""

import json

import pytest

from tunesmith.data import shapes
from tunesmith.data.row import Conversation, Message, RowProblem, Text
from tunesmith.data.shapes import alpaca
from tunesmith.errors import RecipeError

USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


def read(row: dict) -> Conversation | Text:
    return shapes.load(shapes.detect(row)).read(row)


def turns(row: dict) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in read(row).messages]


def test_the_shapes_are_the_files_of_the_folder() -> None:
    assert set(shapes.names()) > shapes.ANSWERED


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"messages": []}, "chat"),
        ({"messages": [], "text": "t", "prompt": "p", "completion": "c"}, "chat"),
        ({"conversations": [USER, ANSWER]}, "chat"),
        ({"conversations": [{"from": "human", "value": "q"}]}, "sharegpt"),
        ({"instruction": "i", "input": "", "output": "o", "text": "t"}, "alpaca"),
        ({"instruction": "i", "response": "o"}, "alpaca"),
        ({"prompt": "p", "completion": "c", "id": 1}, "completion"),
        ({"text": "t", "url": "u"}, "text"),
    ],
)
def test_a_shape_is_found_by_its_keys(row: dict, shape: str) -> None:
    assert shapes.detect(row) == shape


def test_keys_of_no_shape_are_named_beside_those_of_all_shapes() -> None:
    with pytest.raises(RowProblem) as got:
        shapes.detect({"question": "q", "answer": "a"})
    assert got.value.got == "the keys 'question', 'answer'"
    for part in (
        "chat (messages, of role and content",
        "sharegpt (conversations, of from and value",
        "alpaca (instruction, output",
        "completion (prompt, completion)",
        "text (text)",
    ):
        assert part in got.value.expected


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [], "chosen": {}, "rejected": {}},
        {"messages": [], "chosen": [], "rejected": []},
        {"prompt": "p", "chosen": "c", "rejected": "r"},
    ],
)
def test_preference_rows_are_sent_to_the_preference_methods(row: dict) -> None:
    with pytest.raises(RowProblem) as got:
        shapes.detect(row)
    assert "for the preference methods, such as dpo" in got.value.hint


def test_one_message_of_a_tree_is_no_text() -> None:
    with pytest.raises(RowProblem, match="the keys 'text', 'role'"):
        shapes.detect({"text": "How can I?", "role": "prompter"})


def test_an_unknown_shape_is_a_fault_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match=r"data\.train\.format: got 'chta'") as got:
        shapes.load("chta")
    assert got.value.hint == "did you mean chat?"


def test_chat_reads_roles_weights_tools_and_parts() -> None:
    row = {
        "messages": [
            {"role": "developer", "content": "s"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "q"}, {"type": "text", "text": "r"}],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", **CALL}]},
            {"role": "tool", "content": "3", "tool_call_id": "1", "name": "add"},
            {"role": "assistant", "content": "a", "weight": 0},
            USER,
            {"role": "assistant", "content": "b", "weight": 1, "reasoning_content": "because"},
        ],
        "tools": [TOOL],
    }
    assert read(row) == Conversation(
        (
            Message("system", "s"),
            Message("user", "qr"),
            Message("assistant", "", tool_calls=({"id": "1", **CALL},)),
            Message("tool", "3", name="add", tool_call_id="1"),
            Message("assistant", "a", weight=0.0),
            Message("user", "q"),
            Message("assistant", "b", weight=1.0, reasoning="because"),
        ),
        (TOOL,),
    )


def test_chat_reads_the_older_functions_and_json_in_a_cell() -> None:
    call = {
        "role": "assistant",
        "content": None,
        "function_call": {"name": "add", "arguments": "{}"},
    }
    row = {"messages": json.dumps([USER, call]), "functions": [{"name": "add", "parameters": {}}]}
    conversation = read(row)
    assert conversation.tools == (TOOL,)
    call = {"type": "function", "function": {"name": "add", "arguments": {}}}
    assert conversation.messages[1].tool_calls == (call,)


def test_arguments_as_json_text_become_an_object() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    row = {"messages": [USER, {"role": "assistant", "tool_calls": [call]}]}
    assert read(row).messages[1].tool_calls == (CALL,)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "no messages; expected at least a user and an assistant message"),
        ("hello", "messages: 'hello'; expected a list of messages"),
        ('[{"role": ', "messages: invalid JSON"),
        ([USER], "a last message from 'user'; expected the last message from 'assistant'"),
        ([{"role": "system", "content": "s"}], "a last message from 'system'"),
        ([ANSWER], "a first message from 'assistant'; expected 'system' or 'user' first"),
        ([{"role": "system", "content": "s"}, ANSWER], "role 'assistant' behind 'system'"),
        ([USER, USER, ANSWER], r"role 'user' behind 'user' \(message 2\); expected 'user' only be"),
        ([USER, ANSWER, ANSWER], r"role 'assistant' behind 'assistant' \(message 3\)"),
        ([USER, {"role": "system", "content": "s"}, ANSWER], "role 'system' in message 2, behind"),
        ([USER, {"role": "tool", "content": "t"}, ANSWER], "role 'tool' behind 'user'"),
        ([USER, {"role": "bot", "content": "a"}], "message 2: role 'bot'; expected one of system"),
        ([USER, {"role": None, "content": "a"}], "message 2: role None"),
        ([USER, {"content": "a"}], 'expected an object with "role" and "content"'),
        ([USER, "a"], 'message 2: \'a\'; expected an object with "role" and "content"'),
        ([USER, {"role": "assistant"}], 'message 2: no content; expected a text in "content"'),
        ([USER, {"role": "assistant", "content": ""}], r"an empty answer \(assistant message 2\)"),
        ([USER, {"role": "assistant", "content": " \n"}], "an empty answer"),
        ([USER, {"role": "assistant", "content": 7}], r"message 2, content: 7 \(int\); expected"),
        ([USER, {**ANSWER, "weight": -0.5}], "message 2: weight -0.5; expected 0, 1 or another"),
        ([USER, {**ANSWER, "weight": "1"}], "message 2: weight '1'; expected 0, 1 or another"),
        ([USER, {**ANSWER, "weight": True}], "message 2: weight True; expected 0, 1 or another"),
        ([{**USER, "weight": 1}, ANSWER], "weight 1 on a user message"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ANSWER],
            "message 1: a part of type 'image_url'; expected parts of type \"text\" only",
        ),
        ([{"role": "user", "content": ["q"]}, ANSWER], "message 1: a part 'q'"),
        ([{**USER, "tool_calls": [CALL]}, ANSWER], "tool_calls from 'user'"),
        ([USER, {"role": "assistant", "tool_calls": [{}]}], "message 2: tool call {}"),
        (
            [USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}],
            "arguments that are no JSON, '{'",
        ),
        (
            [USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": [1]}]}],
            r"arguments \[1\]; expected a JSON object",
        ),
    ],
)
def test_chat_refuses_what_a_template_would_drop_or_misread(messages: object, message: str) -> None:
    with pytest.raises(RowProblem, match=message):
        read({"messages": messages})


def test_two_questions_in_a_row_come_with_a_hint() -> None:
    with pytest.raises(RowProblem) as got:
        read({"messages": [USER, USER, ANSWER]})
    assert got.value.hint == "join the two user messages into one"


def test_sharegpt_reads_speakers_calls_and_tools() -> None:
    row = {
        "system": "s",
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
            {"from": "observation", "value": "3"},
            {"from": "gpt", "value": "a"},
        ],
        "tools": '[{"name": "add", "parameters": {}}]',
    }
    assert read(row) == Conversation(
        (
            Message("system", "s"),
            Message("user", "q"),
            Message("assistant", "", tool_calls=(CALL,)),
            Message("tool", "3"),
            Message("assistant", "a"),
        ),
        (TOOL,),
    )


def test_sharegpt_reads_several_calls_at_once_and_no_tools() -> None:
    calls = json.dumps([{"name": "add", "arguments": {"a": 1}}] * 2)
    value = [{"from": "user", "value": "q"}, {"from": "function_call", "value": calls}]
    conversation = read({"conversations": value, "tools": ""})
    assert conversation.messages[1].tool_calls == (CALL, CALL)
    assert conversation.tools == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([{"from": "robot", "value": "a"}], "message 1: from 'robot'; expected one of system, hum"),
        ([{"from": "human"}], 'expected an object with "from" and "value"'),
        ([{"from": "human", "value": None}], "conversations, message 1: null; expected a text"),
        ([{"from": "gpt", "value": "a"}], "a first message from 'assistant'"),
        ([{"from": "human", "value": "q"}], "a last message from 'user'"),
        (
            [{"from": "human", "value": "q"}, {"from": "function_call", "value": "add(1)"}],
            r"a function_call that is no JSON, 'add\(1\)'",
        ),
        ([{"from": "human", "value": "q"}, {"from": "gpt", "value": "\n"}], "an empty answer"),
        ([], "no messages"),
        ({}, "conversations: {}; expected a list of messages"),
    ],
)
def test_sharegpt_refuses(row: object, message: str) -> None:
    with pytest.raises(RowProblem, match=message):
        read({"conversations": row})


def test_bad_tools_are_refused() -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    for tools, message in [
        ("[{", "tools: invalid JSON"),
        ({"name": "f"}, "expected a list of tools"),
        ([{"description": "d"}], "expected a tool with a name"),
    ]:
        with pytest.raises(RowProblem, match=message):
            read({"conversations": turns, "tools": tools})


def test_alpaca_puts_the_input_below_the_instruction() -> None:
    row = {"instruction": "Add.", "input": "1 2", "output": "3"}
    assert turns(row) == [("user", "Add.\n1 2"), ("assistant", "3")]
    assert read(row).kind == "completion"
    assert read(row).plain_prompt == alpaca.WITH_INPUT.format(instruction="Add.", input="1 2")


@pytest.mark.parametrize("extra", [{"input": ""}, {"input": None}, {}, {"context": ""}])
def test_alpaca_without_input(extra: dict) -> None:
    row = {"instruction": "Hi.", "output": "Ho.", **extra}
    assert turns(row) == [("user", "Hi."), ("assistant", "Ho.")]
    assert read(row).plain_prompt == alpaca.WITHOUT_INPUT.format(instruction="Hi.")


def test_alpaca_reads_system_and_history_as_turns() -> None:
    row = {
        "instruction": "q2",
        "output": "a2",
        "system": "s",
        "history": [["q1", "a1"]],
    }
    assert turns(row) == [
        ("system", "s"),
        ("user", "q1"),
        ("assistant", "a1"),
        ("user", "q2"),
        ("assistant", "a2"),
    ]
    assert read(row).kind == "chat"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "i", "output": ""}, r"an empty answer \(output\)"),
        ({"instruction": "i", "output": None}, "output: null; expected a text"),
        ({"instruction": "i", "response": " "}, r"an empty answer \(response\)"),
        ({"instruction": 3, "output": "o"}, r"instruction: 3 \(int\); expected a text"),
        ({"instruction": " ", "output": "o"}, "an empty instruction"),
        ({"instruction": "i", "output": "o", "history": [["q"]]}, "history, pair 1"),
    ],
)
def test_alpaca_refuses(row: dict, message: str) -> None:
    with pytest.raises(RowProblem, match=message):
        read(row)


def test_completion_reads_two_texts_as_they_stand() -> None:
    row = {"prompt": "1 + 1 =", "completion": " 2"}
    assert turns(row) == [("user", "1 + 1 ="), ("assistant", " 2")]
    assert read(row).kind == "completion"


@pytest.mark.parametrize("completion", ["a", [ANSWER], ANSWER])
def test_completion_reads_a_prompt_of_messages(completion: object) -> None:
    row = {"prompt": [{"role": "system", "content": "s"}, USER], "completion": completion}
    assert turns(row) == [("system", "s"), ("user", "q"), ("assistant", "a")]
    assert read(row).kind == "chat"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "completion": ""}, r"an empty answer \(completion\)"),
        ({"prompt": "p", "completion": None}, "completion: null; expected a text"),
        ({"prompt": None, "completion": "c"}, "prompt: null; expected a text"),
        ({"prompt": "p", "completion": 5}, r"completion: 5 \(int\); expected a text"),
        ({"prompt": [USER, ANSWER], "completion": "c"}, "role 'assistant' behind 'assistant'"),
        ({"prompt": [USER], "completion": [USER]}, "role 'user' behind 'user'"),
    ],
)
def test_completion_refuses(row: dict, message: str) -> None:
    with pytest.raises(RowProblem, match=message):
        read(row)


def test_text_is_read_as_it_stands() -> None:
    assert read({"text": " a\n"}) == Text(" a\n")


@pytest.mark.parametrize(("text", "message"), [("", "an empty text"), (None, "text: null")])
def test_text_refuses(text: object, message: str) -> None:
    with pytest.raises(RowProblem, match=message):
        read({"text": text})


DEEP = "[" * 30_000


@pytest.mark.parametrize(
    ("row", "got"),
    [
        ({"messages": DEEP}, "messages: invalid JSON"),
        ({"messages": [USER, ANSWER], "tools": DEEP}, "tools: invalid JSON"),
        ({"conversations": [{"from": "function_call", "value": DEEP}]}, "a function_call that is"),
        (
            {"messages": [USER, {**ANSWER, "tool_calls": [{"name": "f", "arguments": DEEP}]}]},
            "arguments that are no JSON",
        ),
        (
            {"messages": [USER, {**ANSWER, "tool_calls": [{"name": "f", "arguments": "[NaN]"}]}]},
            "arguments that are no JSON",
        ),
        ({"messages": [{"role": "user", "content": [{"type": ["text"]}]}]}, "a part of type"),
        ({"instruction": "i", "output": "o", "history": 3}, "history: 3"),
    ],
)
def test_what_fuzzing_found_is_a_problem_of_the_row(row: dict, got: str) -> None:
    with pytest.raises(RowProblem, match=got):
        read(row)
