"""Run by `test_crash.py`: fork a child that saves again and again, kill it at random moments.

Usage: save_until_killed.py FOLDER ROUNDS SEED ; prints JSON, one object per round:
{"acknowledged": last step whose save returned, "found": step of the newest checkpoint that
verifies, "good": whether it reads back as it was saved, "quarantined": how many failed their check}
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from tunesmith.checkpoint.commit import commit
from tunesmith.checkpoint.retain import retain
from tunesmith.checkpoint.state import read_state, write_state
from tunesmith.checkpoint.verify import latest


def save(root: Path, step: int) -> None:
    """A checkpoint of 1 MiB whose every number tells its step."""
    tensors = {"weight": torch.full((256, 1024), float(step)), "bias": torch.tensor(step)}
    commit(root, step, lambda folder: write_state(folder, tensors, {"step": step}), {})
    retain(root, keep=2, protect=set())


def save_forever(root: Path, first: int, pipe: int) -> None:
    """Save and acknowledge, until killed."""
    for step in range(first, sys.maxsize):
        save(root, step)
        os.write(pipe, step.to_bytes(8, "little"))


def one_round(root: Path, first: int, seconds: float) -> dict[str, object]:
    """Let a child save for a while, kill it, and look at what it leaves."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        save_forever(root, first, write)
        os._exit(1)
    os.close(write)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        acknowledged = pipe.read()[-8:]
    found = latest(root)
    step, good = 0, True
    if found.manifest:
        step = found.manifest.step
        tensors, values = read_state(found.manifest.folder)
        good = bool((tensors["weight"] == step).all()) and tensors["bias"].item() == step
        good = good and values == {"step": step}
    return {
        "acknowledged": int.from_bytes(acknowledged, "little"),
        "found": step,
        "good": good,
        "quarantined": len(found.quarantined),
    }


if __name__ == "__main__":
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    moments = random.Random(int(sys.argv[3]))
    torch.set_num_threads(1)
    told, first = [], 1
    for _ in range(rounds):
        told.append(one_round(folder, first, moments.uniform(0.0, 0.25)))
        first = int(str(told[-1]["found"])) + 1
    print(json.dumps(told))
