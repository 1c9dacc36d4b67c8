"""Talking to a model: what it is given, rendered as everything else is."""

import pytest

from tunesmith.api.answer import Speaker
from tunesmith.errors import CommandError, ModelError
from tunesmith.testing.tiny import IM_END, byte_tokenizer


def speaker(template: str | None = None) -> Speaker:
    tokenizer = byte_tokenizer()
    if template is not None:
        tokenizer.chat_template = template
    return Speaker(None, tokenizer, frozenset({IM_END}))


def test_a_conversation_is_rendered_as_transformers_would() -> None:
    one = speaker()
    messages = [{"role": "user", "content": "caf\u00e9"}]
    expected = one.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert one.ids(messages) == expected["input_ids"]
    assert one.ids([{**messages[0], "tool_calls": None}]) == expected["input_ids"]


def test_a_template_that_refuses_says_why() -> None:
    with pytest.raises(CommandError, match=r"messages that it refuses \(no tools here\)"):
        speaker("{{ raise_exception('no tools here') }}").ids([{"role": "user", "content": "a"}])


def test_a_bomb_does_not_hang_a_chat() -> None:
    bomb = "{% for a in range(99999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
    with pytest.raises(ModelError, match="more than 1 s of processor time"):
        speaker(bomb).ids([{"role": "user", "content": "a"}])
