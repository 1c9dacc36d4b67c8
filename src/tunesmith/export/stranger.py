"""A process that has never seen the training, kept to ask what an artefact on the disk answers.

Starting it costs seconds (it imports torch), so one serves for as long as this process lives; each
job loads its artefact from the disk anew.
"""

import atexit
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from torch import Tensor

from tunesmith.errors import RunError
from tunesmith.export.reload import Holding


def ask(
    folder: Path,
    prompts: list[list[int]],
    num_tokens: int,
    held: Holding,
    device: torch.device,
) -> dict[str, Tensor]:
    """What the artefact in `folder` answers to `prompts`, loaded in the other process.

    Args:
        folder: An adapter or model folder.
        prompts: Token ids.
        num_tokens: Greedy tokens after each.
        held: How it holds the base's weights.
        device: Where it computes: the same kind as whatever it is compared with.

    Returns:
        `logits` (P, V) float32 and `tokens` (P, num_tokens) int64, as `reload.answer` gives them.

    Raises:
        RunError: The artefact does not load, or the process died over it.
    """
    with TemporaryDirectory() as temp:
        answers = Path(temp) / "answers.safetensors"
        job = {
            "folder": str(folder.resolve()),
            "prompts": prompts,
            "num_tokens": num_tokens,
            "dtype": str(held.dtype).removeprefix("torch."),
            "quantize": held.quantize,
            "device": str(device),
            "threads": torch.get_num_threads(),
            "answers": str(answers),
        }
        path = Path(temp) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        problem = _tell(path)
        if problem:
            raise RunError(
                str(folder), got=f"an artefact that does not load: {problem}", expected="it loads"
            )
        return load_file(answers)


def _tell(job: Path) -> str:
    """Hand over a job and wait; returns what went wrong, or an empty text."""
    process = _process()
    try:
        process.stdin.write(f"{job}\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    if line:
        return json.loads(line)
    _process.cache_clear()
    return f"the process that loads it ended with status {process.wait()}"


@cache
def _process() -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "tunesmith.export.reload"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # A Ctrl-C at the terminal is for the run, which decides what becomes of this one.
        start_new_session=True,
    )
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
