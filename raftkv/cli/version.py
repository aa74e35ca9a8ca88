"""`raftkv version`."""

from __future__ import annotations

import click

from raftkv.cli.lazy import CliCommand

API_VERSION = "3.4"


def version_text() -> str:
    """Two lines, as `etcdctl version`."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        ours = installed("raftkv")
    except PackageNotFoundError:  # Run from a source tree that was never installed.
        ours = "unknown"
    return f"raftkv version: {ours}\nAPI version: {API_VERSION}"


@click.command("version", cls=CliCommand, examples="raftkv version")
def version() -> None:
    """Print the version of raftkv and of the etcd API it speaks."""
    click.echo(version_text())
