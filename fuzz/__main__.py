"""`python -m fuzz [TARGET ...]`: each target for FUZZ_SECONDS (60) with atheris, one after another.

A finding is left in `fuzz/findings/`, told with its traceback, and ends with exit code 1.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
FINDINGS = Path(__file__).parent / "findings"
STUCK_SECONDS = 60
"""When libFuzzer takes an input for an endless loop. Time on the clock, so it is generous: what is
merely slow is found by the targets, in processor time."""
MAX_BYTES = 8192
READERS = ("tunesmith.data", "tunesmith.models.safetensors_header", "tunesmith.models.gguf_header")
"""Modules whose branches guide the search."""


def one(name: str) -> None:
    """Fuzz a target in this process until its time is over; atheris ends the process."""
    import atheris

    from fuzz.seeds import seeds

    with atheris.instrument_imports(include=list(READERS)):
        from fuzz.targets import TARGETS, strike, warm

        warm(name, seeds(name)[0])  # Targets import what they read with when they are called.
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds(name)):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        options = [
            f"-max_total_time={SECONDS}",
            f"-timeout={STUCK_SECONDS}",
            f"-max_len={MAX_BYTES}",
            "-rss_limit_mb=2048",
            f"-artifact_prefix={FINDINGS}/{name}-",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *options, corpus], lambda data: strike(TARGETS[name], data))
        atheris.Fuzz()


def main() -> int:
    """Fuzz the targets that are named, or all, each in a process of its own."""
    from fuzz.targets import TARGETS

    FINDINGS.mkdir(exist_ok=True)
    failed = []
    for name in sys.argv[1:] or TARGETS:
        print(f"fuzzing {name} for {SECONDS} s", flush=True)
        command = [sys.executable, "-m", "fuzz", "--one", name]
        if subprocess.run(command, cwd=Path(__file__).parents[1], check=False).returncode:
            failed.append(name)
    print(f"findings in {', '.join(failed)}: see fuzz/findings/" if failed else "no findings")
    return int(bool(failed))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2])
    else:
        raise SystemExit(main())
