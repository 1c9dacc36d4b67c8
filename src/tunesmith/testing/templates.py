"""Tokenizers for chat templates of well-known families, one token per byte and per marker.

The templates themselves lie in `tests/data/templates/`, in words of our own: each does what its
family's does with roles, system messages, reasoning, tools and stop tokens, and nothing else.
"""

from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Family:
    """What a family of chat models writes around its turns.

    Attributes:
        markers: Special tokens, given ids from 256 on in this order.
        stop: The one that ends an answer.
        eos: The tokenizer's own end; often another than `stop`.
        bos: What begins a text, if anything does.
    """

    markers: tuple[str, ...]
    stop: str
    eos: str
    bos: str | None = None


_CHATML = Family(("<|im_start|>", "<|im_end|>", "<|endoftext|>"), "<|im_end|>", "<|im_end|>")
_LLAMA3 = Family(
    ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "<|eot_id|>",
    "<|eot_id|>",
    "<|begin_of_text|>",
)
_MISTRAL = Family(("<s>", "</s>"), "</s>", "</s>", "<s>")

FAMILIES = {
    "chatml": _CHATML,
    "chatml_default_system": _CHATML,
    "llama3": _LLAMA3,
    "llama3_dated": _LLAMA3,
    "mistral": _MISTRAL,
    "mistral_last_user": _MISTRAL,
    "gemma": Family(
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), "<end_of_turn>", "<eos>", "<bos>"
    ),
    "phi": Family(
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
        "<|end|>",
        "<|endoftext|>",
    ),
    "qwen3": _CHATML,
    "deepseek_r1": Family(
        ("<|begin|>", "<|end|>", "<|User|>", "<|Assistant|>"), "<|end|>", "<|end|>", "<|begin|>"
    ),
}
"""By the name of the template's file."""


def family_tokenizer(family: Family, template: str) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and the markers of a family; it adds nothing by itself.

    Args:
        family: Its special tokens.
        template: The chat template.
    """
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(pieces)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(family.markers))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=family.eos,
        bos_token=family.bos,
        clean_up_tokenization_spaces=False,
        chat_template=template,
    )


def stop_ids(family: Family, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """What `models.load` would find for it: the tokenizer's end and the family's stop token."""
    return frozenset(tokenizer.convert_tokens_to_ids([family.eos, family.stop]))
