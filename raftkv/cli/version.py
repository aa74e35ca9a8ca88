"""`raftkv version`."""

from __future__ import annotations

import click

from raftkv.cli.lazy import CliCommand
from raftkv.version import ETCD_API_VERSION, __version__


def version_text() -> str:
    """Two lines, as `etcdctl version`; the API version is etcd's minor version."""
    return f"raftkv version: {__version__}\nAPI version: {ETCD_API_VERSION.rpartition('.')[0]}"


@click.command("version", cls=CliCommand, examples="raftkv version")
def version() -> None:
    """Print the version of raftkv and of the etcd API it speaks."""
    click.echo(version_text())
