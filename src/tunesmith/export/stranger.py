"""A process that has never seen the training, kept to ask what an artefact on the disk answers.

Starting it costs seconds (it imports torch), so one serves for as long as this process lives; each
job loads its artefact from the disk anew.
"""

import atexit
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file

from tunesmith.errors import RunError
from tunesmith.export.asked import Asked, Reply
from tunesmith.export.reload import Holding


@dataclass(frozen=True, slots=True)
class Told:
    """What the other process said.

    Attributes:
        reply: Its answers.
        reader: The program that read the artefact there.
    """

    reply: Reply
    reader: str


def ask(folder: Path, asked: Asked, held: Holding, device: torch.device) -> Told:
    """What the artefact in `folder` replies, loaded in the other process.

    Args:
        folder: An adapter or model folder, or one with a GGUF file.
        asked: The questions.
        held: How it holds the base's weights; a GGUF file says that itself.
        device: Where it computes: the same kind as whatever it is compared with.

    Raises:
        RunError: The artefact does not load, or the process died over it.
    """
    with TemporaryDirectory() as temp:
        answers = Path(temp) / "answers.safetensors"
        job = {
            "folder": str(folder.resolve()),
            "asked": asdict(asked),
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
        told = json.loads(answers.with_suffix(".json").read_text(encoding="utf-8"))
        return Told(Reply(**load_file(answers), token_ids=told["token_ids"]), told["reader"])


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
