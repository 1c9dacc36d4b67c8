"""The errors that Tunesmith raises for reasons a user can act on.

TunesmithError
 +- RecipeError      (ValueError)         exit 2   a key, value or override of the recipe
 +- DataError        (ValueError)         exit 2   a file or row of the user's data
 +- ModelError       (ValueError)         exit 2   a base that cannot or must not be loaded
 +- CommandError     (ValueError)         exit 2   a command that cannot be done as asked
 +- RunError         (RuntimeError)       exit 3   the run failed: it diverged, or a gate refused it
 |   +- CheckpointError                   exit 3   a checkpoint that is missing or fails its check
 +- MachineError     (OSError)            exit 4   disk, memory or network failed the run
 +- Interrupted      (KeyboardInterrupt)  exit 130 stopped by the user; the run can be resumed

A message reads: where, what was got, what was expected, and then a line `hint: ...`.
Each error also inherits the builtin in brackets, so `except ValueError` works as users expect.
"""


class TunesmithError(Exception):
    """Base of all errors a user can act on.

    Args:
        where: File and line, recipe key or path, most specific part last.
        got: What was found there, quoted where it is the user's own text.
        expected: What would have been accepted.
        hint: One action that would mend it; left out when there is none.
    """

    exit_code = 1

    def __init__(self, where: str, *, got: str, expected: str = "", hint: str = "") -> None:
        self.where, self.got, self.expected, self.hint = where, got, expected, hint
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The whole text, without colour: one line, and one more for the hint."""
        expected = f"; expected {self.expected}" if self.expected else ""
        hint = f"\nhint: {self.hint}" if self.hint else ""
        return f"{self.where}: got {self.got}{expected}{hint}"

    def __str__(self) -> str:
        return self.message


class RecipeError(TunesmithError, ValueError):
    """A key, value or override of the recipe is wrong."""

    exit_code = 2


class DataError(TunesmithError, ValueError):
    """A data file, or a row of it, cannot be used as the recipe asks."""

    exit_code = 2


class ModelError(TunesmithError, ValueError):
    """A base cannot be found, is damaged, or is of a kind that is refused."""

    exit_code = 2


class CommandError(TunesmithError, ValueError):
    """The command cannot be done as asked, for example on a folder that is no run."""

    exit_code = 2


class RunError(TunesmithError, RuntimeError):
    """The run failed: training diverged or a gate refused the result."""

    exit_code = 3


class CheckpointError(RunError):
    """A checkpoint is missing, incomplete, or does not match its manifest."""


class MachineError(TunesmithError, OSError):
    """The machine failed the run: disk, memory or network.

    Attributes:
        needed_bytes: How much was to be written, where a disk refused it and that is known.
    """

    exit_code = 4
    needed_bytes: int | None = None


class Interrupted(TunesmithError, KeyboardInterrupt):
    """The user stopped the run; what was trained is saved and can be resumed."""

    exit_code = 130
