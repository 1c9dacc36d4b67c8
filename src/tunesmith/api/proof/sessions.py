"""The runs of a proof, each session in a process of its own through the command line."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

from tunesmith.api.proof.miniature import Cut
from tunesmith.checkpoint.layout import step_folder
from tunesmith.errors import CommandError, Interrupted, MachineError, RunError
from tunesmith.recipe import Recipe, to_yaml
from tunesmith.runs.folder import RunFolder

Launch = Callable[[str, Sequence[str], Path], int]
"""Runs a module with arguments, its words into a file; gives the exit code, or minus the signal."""

VERBS = "tunesmith.cli.main"
KILLED = "tunesmith.cli.killed"
LAST_WORDS = 400
"""Characters of what a process said last that an error repeats."""


def fresh_process(module: str, arguments: Sequence[str], log: Path) -> int:
    """The `Launch` that proves: a process that has seen nothing of any other."""
    command = [sys.executable, "-m", module, *arguments]
    with log.open("wb") as words:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, check=False
        )
    return done.returncode


@dataclass(frozen=True, slots=True)
class Sessions:
    """Trains the runs of a proof.

    Attributes:
        place: Folder for them; it exists.
        cut: How far, and where they are killed.
        tell: Gets a sentence before each process.
        launch: Starts one.
    """

    place: Path
    cut: Cut
    tell: Callable[[str], None]
    launch: Launch

    def straight(self, name: str, recipe: Recipe) -> RunFolder:
        """Train without a stop."""
        self.tell(f"{name} run: {self.cut.steps} steps without a stop")
        folder = self._folder(name)
        self._go(VERBS, ["train", self._written(folder, recipe)], Interrupted.exit_code)
        return folder

    def killed(self, name: str, recipe: Recipe) -> RunFolder:
        """Train, killed twice on the way, and gone on with twice."""
        first, second = self.cut.first, self.cut.second
        folder = self._folder(name)
        target = str(step_folder(folder.checkpoints, second))
        self.tell(f"{name} run: to be killed inside the save of step {second}")
        path = self._written(folder, recipe)
        self._go(KILLED, ["inside", target, "train", path], -SIGKILL)
        self.tell(f"{name} run: resumed from step {first}, to be killed after that save")
        self._go(KILLED, ["after", target, "resume", str(folder.path)], -SIGKILL)
        self.tell(f"{name} run: resumed from step {second}, on to step {self.cut.steps}")
        self._go(VERBS, ["resume", str(folder.path)], Interrupted.exit_code)
        return folder

    def _folder(self, name: str) -> RunFolder:
        return RunFolder(self.place / name)

    def _written(self, folder: RunFolder, recipe: Recipe) -> str:
        """Path of the recipe as a file, to run in `folder`."""
        output = recipe.output.model_copy(update={"dir": str(folder.path)})
        path = self.place / f"{folder.name}.yaml"
        path.write_text(to_yaml(recipe.model_copy(update={"output": output})), encoding="utf-8")
        return str(path)

    def _go(self, module: str, arguments: list[str], expected: int) -> None:
        """One process; an error unless it ends as it should."""
        log = self.place / "words"
        code = self.launch(module, [*arguments, "--until", str(self.cut.steps)], log)
        if code == expected:
            return
        words = log.read_text(encoding="utf-8", errors="replace").split()
        kinds = {CommandError.exit_code: CommandError, MachineError.exit_code: MachineError}
        raise kinds.get(code, RunError)(
            f"proof: tunesmith {' '.join(arguments)}",
            got=f"exit code {code}: {' '.join(words)[-LAST_WORDS:]}",
            expected=f"exit code {expected}",
        )
