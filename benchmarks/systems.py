"""The two systems that benchmarks compare, and the words that all benchmark commands share.

What may not live here: load, measuring, figures.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from benchmarks import measure
from raftkv.lab.cluster import SERVE, LocalCluster
from raftkv.version import __version__

COMMANDS: dict[str, Sequence[str]] = {"raftkv": SERVE, "etcd": ["etcd"]}
QUOTA_BYTES = 8 * 1024**3
"""Room for history between compactions, the same for both: with the default of 2 GiB a fast system fills it first."""


def note(text: str) -> None:
    """Progress goes to standard error."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def running(system: str, *, quota_bytes: int = QUOTA_BYTES) -> Iterator[LocalCluster]:
    """Three fresh nodes of a system on a real disk, with etcd's defaults apart from the quota; taken down at the end."""
    flags = ["--quota-backend-bytes", str(quota_bytes)]
    parent = measure.scratch_directory()
    with LocalCluster.temporary(command=COMMANDS[system], flags=flags, proxy=False, parent=parent) as cluster:
        note(f"{system}: starting 3 nodes in {cluster.directory}")
        cluster.up()
        yield cluster


def chosen(against: str | None) -> list[str]:
    """The systems to measure.

    Raises:
        click.ClickException: the other one is not installed.
    """
    if against is None:
        return ["raftkv"]
    if shutil.which(against) is None:
        raise click.ClickException(f"no {against} on the PATH (Debian: apt install etcd-server)")
    return ["raftkv", against]


def turns(systems: Sequence[str], repeats: int) -> list[tuple[int, str]]:
    """Which system is measured when: in turns, and every other round the other way round (A B, B A, …).

    So what drifts while all this runs (a disk's cache, a neighbour on the machine) meets both alike.
    """
    return [(turn, system) for turn in range(repeats) for system in (systems if turn % 2 == 0 else systems[::-1])]


def versions(systems: Sequence[str]) -> dict[str, str]:
    """What is measured."""
    found = {"raftkv": f"{__version__} {_commit()}".strip()}
    if "etcd" in systems:
        answer = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=True)
        found["etcd"] = answer.stdout.splitlines()[0].removeprefix("etcd Version: ")
    return found


def _commit() -> str:
    """Which commit, where git knows one."""
    if shutil.which("git") is None:
        return ""
    where = str(Path(__file__).parent)
    answer = subprocess.run(["git", "-C", where, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return answer.stdout.strip()


def described(result: dict[str, Any]) -> str:
    """Machine and versions for people."""
    machine = "  ".join(f"{key} {value}" for key, value in result["machine"].items())
    return f"machine: {machine}\nversions: {'  '.join(f'{name} {text}' for name, text in result['versions'].items())}"


def preamble(systems: Sequence[str]) -> dict[str, Any]:
    """What every kept result begins with."""
    measure.scratch_directory()
    return {"command": sys.argv[1:], "machine": measure.machine(), "versions": versions(systems)}


# Options.


def numbers(_ctx: click.Context, _parameter: click.Parameter, value: str) -> list[int]:
    """Read ``1,16,64``."""
    try:
        found = [int(word) for word in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 1,16,64") from None
    if min(found) < 1:
        raise click.BadParameter(f"{min(found)} is less than 1")
    return found


Decorator = Callable[[Any], Any]
against_option: Decorator = click.option(
    "--against", type=click.Choice(["etcd"]), default=None, help="Measure this one beside raftkv, in turns."
)
json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
