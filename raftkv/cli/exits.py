"""Exit codes, and the exception that ends a command with one line.

What may not live here: anything that prints; `main.run` turns these into output.

Source: the numbers are etcdctl 3.4's (`ExitBadArgs` = 128 and so on); USAGE, INTERRUPTED and BROKEN_PIPE are the shell's.
"""

from __future__ import annotations

from enum import IntEnum

import click


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2  # A bad flag or flag value.
    INVALID_INPUT = 3  # A transaction that cannot be read.
    NOT_SUPPORTED = 4  # An output format that the command does not have.
    CANCELED = 5  # The server ended a watch.
    BAD_ARGUMENTS = 128  # Missing, superfluous or contradicting arguments.
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class Failure(click.ClickException):
    """Ends the command with `Error: <message>` on stderr and this exit code."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click has a class attribute here.
        return int(self.code)


class AlreadyReported(Exception):
    """Ends the command with exit code 1; what went wrong has been written to stderr."""


def bad_arguments(message: str) -> Failure:
    """The arguments themselves are well-formed, but missing, too many or in contradiction."""
    return Failure(message, Exit.BAD_ARGUMENTS)
