"""Run by `test_saver_faults.py`, as a module: strike the save of a run that really trains.

A small model is trained by AdamW with the run's own `Saver`: keep 1, the best moving. Each child
has the training of step AT in memory, as a run does, and is struck while it saves that step.

Usage: python -m tests.checkpoint.saver_points FOLDER STRACE ROUNDS
ROUNDS is JSON: name to {"faults": system call to fault, "points": list, or null for all there are}.
Prints JSON: name to [[[scenario, system call, number], exit code or -signal], ...]
"""

import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from tests.checkpoint.strikes import Scenario, every_point, these_points, traced
from tunesmith.checkpoint.verify import latest
from tunesmith.engine.guard import Guard
from tunesmith.engine.saving import Saver, restore

AT, END = 4, 8
BEST = {0: None, 1: 1, 2: 1, 3: 1, 4: 4, 5: 4, 6: 6, 7: 6, 8: 6}
"""The best step as it is known after each step; saving AT makes two older ones superfluous."""


def guard(rejected: int = 0) -> Guard:
    """One that asks for no checkpoint to be kept: none is waiting to be proved but a past one."""
    return Guard(END, rejected=rejected, pending=(0, 0))


class Training:
    """A model of two layers on numbers that are a function of the step."""

    def __init__(self, root: Path) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
        self.trained = dict(self.model.named_parameters())
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=1e-2)
        self.step = 0
        self.save = Saver(
            root=root,
            trained=self.trained,
            optimizer=self.optimizer,
            ema=None,
            every=1,
            keep=1,
            manifest={"recipe": {"name": "points"}},
            history={},
            best=lambda: BEST[self.step],
            also_kept=set,
            guard=guard(),
            notice=lambda event: None,
        )

    def advance(self) -> None:
        """One step, not saved."""
        self.step += 1
        draw = torch.Generator().manual_seed(self.step)
        inputs, wanted = torch.randn(4, 8, generator=draw), torch.randn(4, 4, generator=draw)
        nn.functional.mse_loss(self.model(inputs), wanted).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def run(self, until: int) -> None:
        """Step and save, as the loop does."""
        while self.step < until:
            self.advance()
            self.save(self.step, must=False)

    def go_on(self) -> list[tuple[Path, str]]:
        """Start from the newest checkpoint, as `tunesmith resume`; what was put in quarantine."""
        found = latest(self.save.root)
        if found.manifest is not None:
            self.step = restore(found.manifest.folder, self.trained, self.optimizer)["step"]
        return found.quarantined

    def digest(self) -> str:
        """SHA-256 over the bits of all weights and all that the optimizer keeps."""
        found = sha256(str(self.step).encode())
        for parameter in self.trained.values():
            for tensor in (parameter, *self.optimizer.state[parameter].values()):
                found.update(tensor.detach().numpy().tobytes())
        return found.hexdigest()


def scenarios(base: Path) -> dict[str, Scenario]:
    """What a save may meet: older ones to rotate away, one of the same step, leftovers, nothing."""
    memory = Training(base / "unused")
    earlier, same = base / "earlier", base / "same"
    Training(earlier).run(AT - 1)
    Training(same).run(AT)
    shutil.copytree(same / f"step-{AT}", same / f".old-step-{AT}-{2**22 + 1}")
    other = Training(same)
    other.go_on()
    other.save.guard = guard(rejected=1)
    other.save(AT, must=True)
    for _ in range(AT):
        memory.advance()

    def save(root: Path) -> None:
        memory.save.root = root
        memory.save(AT, must=True)

    def copy(source: Path) -> Scenario:
        return Scenario(lambda root: shutil.copytree(source, root), save)

    return {
        "rotate": copy(earlier),
        "replace": copy(same),
        "first": Scenario(lambda root: root.parent.mkdir(exist_ok=True), save),
    }


def main(base: Path, strace: str, rounds: dict[str, dict]) -> None:
    """Strike and tell."""
    wanted, told = scenarios(base), {}
    for name, ask in rounds.items():
        folder, faults, points = base / name, ask["faults"], ask["points"]
        folder.mkdir()
        # A child begins to count anew; this one makes none of these calls while it is traced.
        with traced(strace, faults):
            if points is None:
                told[name] = list(every_point(folder, wanted, list(faults)))
            else:
                told[name] = list(these_points(folder, wanted, [tuple(p) for p in points]))
    print(json.dumps(told))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
