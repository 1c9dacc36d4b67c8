"""Tunesmith: fine-tunes pretrained language models and proves what it did.

`import tunesmith` loads no torch; the names below are loaded when first used.
"""

import logging
from importlib import import_module

__version__ = "0.1.0"

# As PEFT imports it, bitsandbytes warns of a package it could fetch compiled code with.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

_LAZY = {
    "train": "tunesmith.api",
    "resume": "tunesmith.api",
    "evaluate": "tunesmith.api",
    "generate": "tunesmith.api",
    "export": "tunesmith.api",
    "plan": "tunesmith.api",
    "prove": "tunesmith.api",
    "Run": "tunesmith.api",
    "Recipe": "tunesmith.recipe",
    "TunesmithError": "tunesmith.errors",
}

__all__ = [
    "Recipe",
    "Run",
    "TunesmithError",
    "__version__",
    "evaluate",
    "export",
    "generate",
    "plan",
    "prove",
    "resume",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
