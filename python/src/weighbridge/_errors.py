"""What weighbridge raises."""
from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

if TYPE_CHECKING:
    from ._results import Problem


class Error(Exception):
    """Anything that weighbridge could not do. The text has a line for each problem."""

    #: Every problem, with its code, what it is about, and what helps.
    problems: Tuple[Problem, ...]
    #: The program's exit status.
    exit_code: int
    #: The command that was run.
    command: Tuple[str, ...]
    #: What the program wrote to standard error.
    stderr: str

    def __init__(self, message: str, problems: Tuple[Problem, ...], exit_code: int, command: Tuple[str, ...], stderr: str) -> None:
        super().__init__(message)
        self.problems, self.exit_code, self.command, self.stderr = problems, exit_code, command, stderr

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return type(self), (str(self), self.problems, self.exit_code, self.command, self.stderr)


class Refused(Error):
    """The target cannot express the model. Nothing was written; ``problems`` names what it lacks."""


class Failed(Error):
    """Bad input, or reading or writing failed."""


class UsageError(Error, ValueError):
    """An argument that weighbridge does not take."""
