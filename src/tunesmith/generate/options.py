"""What a caller of the generate room may choose."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """When an answer ends, and how many are made side by side.

    Attributes:
        max_new_tokens: Most tokens of one answer, the stop token included.
        stop_ids: Tokens that end an answer; with none of them an answer ends by its length.
        pad_id: Token that fills the left of shorter prompts, for a model that needs padding. It is
            masked, so any id of the vocabulary will do; it may be one of `stop_ids`.
        batch_rows: Most answers under way at a time; fewer if their cache would take too much
            memory. Of the starter 64 take a quarter less time per answer than 32 (measured).
        keep_stop: Whether the stop token that ended an answer stays on as its last token.
    """

    max_new_tokens: int
    stop_ids: frozenset[int]
    pad_id: int
    batch_rows: int = 64
    keep_stop: bool = False

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "batch_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; expected at least 1")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        temperature: Logits are divided by it; 0 is greedy, whatever the rest says.
        top_p: Nucleus sampling (arXiv:1904.09751, section 3.1): only the fewest most probable
            tokens that together reach this probability may be drawn. 1 keeps all of them.
        seed: The same seed gives the same tokens on the same machine.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature: got {self.temperature}; expected 0 or more")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p: got {self.top_p}; expected more than 0 and at most 1")


GREEDY = Sampling()
"""Always the most probable token."""
