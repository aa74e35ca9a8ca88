"""``raftkv demo``: a thin face of ``raftkv.lab.demo``. Nothing else lives here."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from raftkv.errors import RaftkvError


@click.command()
@click.option("--plain", is_flag=True, help="Plain lines and no prompt, as without a terminal.")
def demo(plain: bool) -> None:
    """Three nodes, a murdered leader, and a count of what was lost.

    Starts a cluster on this machine, writes through the Python client, kills the leader with SIGKILL, shows the outage that
    the client saw, and checks that every acknowledged write is there. On a terminal it leaves a prompt with the cluster.
    Nothing is left behind.
    """
    from raftkv.lab import demo as story

    console = Console()
    interactive = not plain and sys.stdin.isatty() and console.is_terminal
    try:
        status = story.run(console, interactive=interactive)
    except KeyboardInterrupt:
        console.print("\ninterrupted; everything is cleaned up")
        status = 130
    except RaftkvError as error:
        raise click.ClickException(str(error)) from error
    raise SystemExit(status)
