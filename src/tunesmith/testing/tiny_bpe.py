"""A byte-level BPE tokenizer with a few merges, in the ways of cutting text that GGUF knows."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from tunesmith.testing.tiny import CHATML

TEXTS = (
    "the cat sat on the mat and the dog sat on the log",
    "numbers 12 345 6789, words and more words: it's there, isn't it?",
)
NUM_TOKENS = 290
"""Of the vocabulary before special tokens: the 256 bytes and 34 merges."""


def bpe_tokenizer(cut: str = "smollm", bos: bool = False) -> PreTrainedTokenizerFast:
    """A trained tokenizer; the same arguments give the same one.

    Args:
        cut: `smollm`, `gpt-2`, or a name whose pattern transformers has, such as `llama-bpe`.
        bos: Whether it has a BOS, and puts it before every text.

    Returns:
        With ChatML, stop token `<|im_end|>` and padding `<|pad|>`, in that order behind `<|bos|>`.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = _cutting(cut)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=NUM_TOKENS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    special = ["<|bos|>"] if bos else []
    backend.add_special_tokens([*special, "<|im_start|>", "<|im_end|>", "<|pad|>"])
    if bos:
        from tokenizers.processors import TemplateProcessing

        token = ("<|bos|>", backend.token_to_id("<|bos|>"))
        backend.post_processor = TemplateProcessing(single="<|bos|> $A", special_tokens=[token])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|bos|>" if bos else None,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        clean_up_tokenization_spaces=False,
        chat_template=("{{ bos_token }}" if bos else "") + CHATML,
    )


def _cutting(cut: str) -> pre_tokenizers.PreTokenizer:
    if cut == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if cut == "smollm":
        first = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([first, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    split = pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[cut]), "isolated")
    rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, rest])
