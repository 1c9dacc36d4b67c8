"""Tunesmith from Python: `train`, `resume`, `prove`, `plan`, `evaluate`, `export` and the rest.

Each verb reads the recipe, builds the parts and calls the room that does the work. May import every
room except `serve` and `cli`.
"""

# ruff: noqa: E402
from tunesmith.config.process import settle

settle()  # Before the imports below load torch, and with it libgomp.

from tunesmith.api.evaluate import evaluate
from tunesmith.api.plan import plan
from tunesmith.api.prove import prove
from tunesmith.api.run import Run, export, generate
from tunesmith.api.train import resume, train

__all__ = ["Run", "evaluate", "export", "generate", "plan", "prove", "resume", "train"]
