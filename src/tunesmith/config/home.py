"""Where caches live."""

import os
from pathlib import Path


def home() -> Path:
    """`TUNESMITH_HOME`, or ~/.cache/tunesmith."""
    return Path(os.environ.get("TUNESMITH_HOME") or "~/.cache/tunesmith").expanduser()
