"""A tiny base for tests: a tokenizer with one token per byte, and a random Llama of 2 layers.

Both are the real classes of `transformers`, so whatever holds for them holds for a real base.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>", "<|pad|>")
"""Added behind the 256 bytes, so their ids are 256, 257 and 258."""

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML without a default system prompt."""

NUM_VOCABULARY = 320
IM_END, PAD = 257, 258


def _byte_characters() -> list[str]:
    """The printable character that ByteLevel writes for each byte, in order of the byte (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {byte: chr(byte) for byte in printable}
    shown |= {byte: chr(256 + rank) for rank, byte in enumerate(others)}
    return [shown[byte] for byte in range(256)]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose ids 0..255 are the bytes of the UTF-8 text, with ChatML.

    It adds no BOS and no EOS by itself; `decode(encode(text)) == text` for any text that can be
    written in UTF-8. The text of a special token becomes its one id.

    Returns:
        The tokenizer; eos `<|im_end|>` (257), pad `<|pad|>` (258), no bos, no unk.
    """
    vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        extra_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
        chat_template=CHATML,
    )


def tiny_model(seed: int = 0, tied: bool = True, **overrides: object) -> LlamaForCausalLM:
    """A random Llama in fp32 whose vocabulary covers `byte_tokenizer`.

    Args:
        seed: The same seed gives the same bits; the global random state is left as it was.
        tied: Whether the head shares the matrix of the embedding.
        **overrides: Keys of `LlamaConfig` to set otherwise, for example `num_hidden_layers=1`.

    Returns:
        The model in eval mode: 2 layers, hidden 64, 4 heads over 2 key-value heads, 320 tokens.
    """
    values: dict[str, object] = {
        "vocab_size": NUM_VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "eos_token_id": IM_END,
        "pad_token_id": PAD,
        "dtype": "float32",
    }
    config = LlamaConfig(**(values | overrides))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).float()
    model.generation_config = GenerationConfig(eos_token_id=IM_END, pad_token_id=PAD)
    return model.eval()


def tiny_base(folder: Path, seed: int = 0) -> Path:
    """Saves `tiny_model` and `byte_tokenizer` as a model folder.

    Args:
        folder: Made when it is missing.
        seed: Of the model.

    Returns:
        The folder.
    """
    tiny_model(seed).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return Path(folder)
