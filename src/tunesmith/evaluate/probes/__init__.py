"""Probes: measures of what the base could already do. One file per probe.

A file holds `Config` (a `Section`), `prepare(generate_ids, renderer, collate, config)`, which asks
the base once, and `measure(probe, base_logprobs, now_logprobs)`, which compares a model with it.
May import `data`, `config`, `errors`, `evaluate.rows` and `probes.base`. To add a probe, add a
file; its name goes into the recipe's `evaluate.probes`.
"""

from types import ModuleType

from tunesmith.config import folder
from tunesmith.evaluate import probes as package


def names() -> list[str]:
    """The probes there are."""
    return folder.names(package)


def load(name: str) -> ModuleType:
    """The probe file `name`; a RecipeError lists the choices when there is none."""
    return folder.load(package, name, "evaluate.probes")
