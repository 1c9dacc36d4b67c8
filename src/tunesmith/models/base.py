"""What a run starts from: where a base lies, and the base once it is in memory."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class BaseSource:
    """A base found on this machine, not yet loaded.

    Attributes:
        id: As the recipe named it: `starter`, a path, or a hub id.
        path: Folder that holds the files.
        gguf: Name of the GGUF file in that folder; None for a folder of safetensors.
        sha256: Over the sorted (name, SHA-256) of weight, config and tokenizer files.
        revision: Commit of a hub id; None for everything else.
    """

    id: str
    path: Path
    gguf: str | None
    sha256: str
    revision: str | None


@dataclass
class Base:
    """A base in memory.

    The tokenizer's padding token may be one of the stop tokens (it is for the starter). Padding is
    therefore told by position or mask, never by comparing with the id of the padding token.

    Attributes:
        source: Where it came from.
        model: In eval mode, no parameter asking for a gradient, attention `sdpa`.
        tokenizer: With the tokens and the chat template that the base was published with.
        stop_ids: Tokens that end an answer: those of the tokenizer and of the generation config.
            Empty when neither names one.
        added: Ids of tokens that it was not published with.
    """

    source: BaseSource
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stop_ids: frozenset[int]
    added: tuple[int, ...] = ()
