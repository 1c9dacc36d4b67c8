"""How long prompts and answers may get, before anything is generated."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from tunesmith.errors import DataError
from tunesmith.models.soft import num_ahead


def max_tokens(model: PreTrainedModel) -> int | None:
    """Most tokens, prompt and answer together, that `model` has positions for; None without end."""
    # Models with relative positions have no such key.
    config = model.config.get_text_config(decoder=True)
    longest = getattr(config, "max_position_embeddings", None)
    return None if longest is None else longest - num_ahead(model)


def check_prompts(prompts: Sequence[Sequence[int]], longest: int | None) -> None:
    """See that every prompt can be answered.

    Raises:
        DataError: A prompt is empty or leaves no room for a single token; counted from 1.
    """
    for number, prompt in enumerate(prompts, 1):
        if not prompt:
            raise DataError(f"prompt {number}", got="no tokens", expected="at least one")
        if longest is not None and len(prompt) >= longest:
            raise DataError(
                f"prompt {number}",
                got=f"{len(prompt)} tokens",
                expected=f"at most {longest - 1}: the model has {longest} positions, "
                "and an answer needs one",
                hint="shorten the prompt, or use a base with a longer context",
            )
