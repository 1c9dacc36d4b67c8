"""The contract with a tokenizer that merges: SmolLM2's, with its own chat template."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tunesmith.data.row import Conversation, Message, RowProblem
from tunesmith.data.template import Renderer

pytestmark = pytest.mark.slow

MERGED = ["  two spaces", "\n\n- list\n- list\n", "\t\tindented"]
"""Begin with white space that the tokenizer joins with the line feed of the prompt."""

APART = [
    "yes",
    " yes",
    "\nyes",
    "1234567890",
    "don't",
    "\u00e9t\u00e9 \U0001f600 \u4f60\u597d",
    "trailing   \n\n",
    "<think>\nx\n</think>\n\ny",
    "```python\n    pass\n```",
]


@pytest.fixture(scope="module")
def tokenizer(starter: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(starter)


@pytest.mark.parametrize("answer", MERGED + APART)
@pytest.mark.parametrize("question", ["hi", "hi\n", "", " 12"])
def test_the_prompt_begins_the_row_and_the_answer_with_its_stop_is_trained(
    tokenizer: PreTrainedTokenizerBase, question: str, answer: str
) -> None:
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}))
    row = Conversation((Message("user", question), Message("assistant", answer)))
    encoded, prompt = renderer.encode(row), renderer.prompt(row)
    assert encoded.input_ids[: len(prompt)].tolist() == prompt
    trained = tokenizer.decode(encoded.input_ids[encoded.trained])
    assert trained == f"{answer}<|im_end|>"
    assert encoded.trained[len(prompt)]


def twice(answer: str) -> Conversation:
    return Conversation((Message("user", "q"), Message("assistant", answer)) * 2)


@pytest.mark.parametrize("answer", APART)
def test_earlier_answers_are_trained_in_full(
    tokenizer: PreTrainedTokenizerBase, answer: str
) -> None:
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}))
    pieces = renderer.explain(renderer.encode(twice(answer)))
    assert [text for text, trained in pieces if trained] == [f"{answer}<|im_end|>"] * 2


@pytest.mark.parametrize("answer", MERGED)
def test_earlier_answers_that_merge_with_the_prompt_are_refused_but_the_last_is_not(
    tokenizer: PreTrainedTokenizerBase, answer: str
) -> None:
    stop = frozenset({tokenizer.eos_token_id})
    with pytest.raises(RowProblem, match="the tokenizer merges with the prompt"):
        Renderer(tokenizer, stop).encode(twice(answer))
    renderer = Renderer(tokenizer, stop, "last")
    pieces = renderer.explain(renderer.encode(twice(answer)))
    assert [text for text, trained in pieces if trained] == [f"{answer}<|im_end|>"]
