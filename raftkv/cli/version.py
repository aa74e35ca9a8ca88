"""`raftkv version`."""

from __future__ import annotations

import click

from raftkv.cli.lazy import CliCommand
from raftkv.version import ETCD_API_VERSION, __version__

API_VERSION = ETCD_API_VERSION.rpartition(".")[0]


def version_text() -> str:
    """Two lines, as `etcdctl version`."""
    return f"raftkv version: {__version__}\nAPI version: {API_VERSION}"


@click.command("version", cls=CliCommand, examples="raftkv version")
def version() -> None:
    """Print the version of raftkv and of the etcd API it speaks."""
    click.echo(version_text())
