"""`rewards`: how good a trained reward model finds answers."""

from collections.abc import Sequence
from pathlib import Path

from tunesmith.api.reader import Readable, Reader, open_reader
from tunesmith.errors import CommandError


def rewards(
    name: str | Path | Reader, prompts: Sequence[Readable], answers: Sequence[str]
) -> list[float]:
    """The reward of each answer to its prompt.

    Args:
        name: A run of method reward, a folder that one exported, or the same opened.
        prompts: User messages, or whole conversations that end with one.
        answers: One for each.

    Raises:
        CommandError: Another model, or not as many answers as prompts.
    """
    if len(prompts) != len(answers):
        got = f"{len(answers)} answers to {len(prompts)} prompts"
        raise CommandError("answers", got=got, expected="one for each prompt")
    reader = name if isinstance(name, Reader) else open_reader(name)
    if reader.problem != "regression":
        got = f"a model of {len(reader.labels)} classes"
        raise CommandError("rewards", got=got, expected="one that gives a single number")
    asked = [
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        for prompt in prompts
    ]
    said = [
        [*before, {"role": "assistant", "content": answer}]
        for before, answer in zip(asked, answers, strict=True)
    ]
    return reader.scores(said)[:, 0].tolist()
