"""`raftkv snapshot save|status|restore`.

What may not live here: what a snapshot file looks like (`raftkv.statemachine.export`), and what is made of one.

Source: grammar, checks, texts and exit codes are etcdctl 3.4's. The files are not etcd's: each restores its own alone.
"""

from __future__ import annotations

from pathlib import Path

import click

from raftkv.cli.exits import Exit, Failure, bad_arguments
from raftkv.cli.lazy import CliCommand, Lazy, LazyGroup
from raftkv.cli.options import flag, settings_of
from raftkv.errors import DataLoss

SAVE_EXAMPLES = "raftkv --endpoints 10.0.0.1:2379 snapshot save backup.db\n"
STATUS_EXAMPLES = "raftkv snapshot status backup.db -w table\n"
RESTORE_EXAMPLES = """
raftkv snapshot restore backup.db --name n1 --data-dir n1.raftkv --initial-cluster-token cluster-2 \\
    --initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380 \\
    --initial-advertise-peer-urls http://10.0.0.1:2380
"""

snapshot = LazyGroup(
    "snapshot",
    lazy={
        "save": Lazy(module=__name__, name="save", help="Store a snapshot of one server in a file."),
        "restore": Lazy(
            module=__name__, name="restore", help="Make a data directory of a new cluster from it.", extra="server"
        ),
        "status": Lazy(module=__name__, name="status", help="Check a file, and tell what it holds.", extra="server"),
    },
    help="Snapshots of a server: save, check, restore.",
    examples=SAVE_EXAMPLES + STATUS_EXAMPLES + RESTORE_EXAMPLES.lstrip("\n"),
)


@click.command("save", cls=CliCommand, examples=SAVE_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="FILE")
@click.pass_context
def save(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Store a snapshot of one server in FILE, whole or not at all, its digest checked."""
    settings = settings_of(ctx)
    if len(arguments) != 1:
        raise bad_arguments("snapshot save expects one argument")
    if len(settings.endpoints) > 1:
        raise Failure(
            f"snapshot must be requested to one selected node, not multiple [{' '.join(settings.endpoints)}]",
            Exit.CANCELED,
        )

    from raftkv.cli.rpc import Connection
    from raftkv.client.snapshot_file import SnapshotFile, written_whole

    path = Path(arguments[0])
    try:
        with written_whole(path) as file, Connection(settings) as connection:
            whole = SnapshotFile(file)
            for response in connection.snapshot():
                whole.write(response.blob)
            whole.finish()
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise Failure(f"could not open {path}.part (open {path}.part: {what})", Exit.CANCELED) from None
    except DataLoss as error:
        raise Failure(error.message, Exit.CANCELED) from None
    click.echo(f"Snapshot saved at {path}")


@click.command("status", cls=CliCommand, examples=STATUS_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="FILE")
@click.pass_context
def status(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Check FILE from end to end, and show its hash, revision, number of stored versions, and size."""
    settings = settings_of(ctx)
    if len(arguments) != 1:
        raise bad_arguments("snapshot status requires exactly one argument")
    path = _existing(arguments[0], "stat")

    from raftkv.cli.printers import SavedSnapshot, printer
    from raftkv.statemachine.restoring import snapshot_status

    show = printer(settings, "snapshot_status")
    found = snapshot_status(path)
    summary = found.summary
    show(SavedSnapshot(hash=summary.hash, revision=summary.revision, keys=summary.records, size=found.size))


@click.command("restore", cls=CliCommand, examples=RESTORE_EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="FILE")
@click.option("--data-dir", default="", metavar="DIR", help="Data directory to make.  [default: NAME.raftkv]")
@click.option("--name", default="default", metavar="NAME", help="This member's name.  [default: default]")
@click.option("--initial-cluster", default="", metavar="NAME=URL,...", help="All members.  [default: this one alone]")
@click.option(
    "--initial-cluster-token", default="", metavar="TOKEN", help="Not the old cluster's.  [default: that of `serve`]"
)
@click.option(
    "--initial-advertise-peer-urls",
    default="",
    metavar="URLS",
    help="Where peers will reach this member.  [default: that of `serve`]",
)
@flag("--skip-hash-check", help="Do without the digest: for a data.mdb copied out of a data directory.")
@click.pass_context
def restore(
    ctx: click.Context,
    arguments: tuple[str, ...],
    data_dir: str,
    name: str,
    initial_cluster: str,
    initial_cluster_token: str,
    initial_advertise_peer_urls: str,
    skip_hash_check: bool,
) -> None:
    """Make the data directory of one member of a new cluster from FILE.

    Do it once for each member, with the same FILE and --initial-cluster; then start each with the same flags. The keys, their
    history and the revision are those of the snapshot; members, alarms and the cluster's id are new.
    """
    settings_of(ctx)
    if len(arguments) != 1:
        raise bad_arguments("snapshot restore requires exactly one argument")
    path = _existing(arguments[0], "open")

    from raftkv.config import DEFAULT_PEER_URL, DEFAULT_TOKEN, ServerConfig, parse_initial_cluster, parse_urls
    from raftkv.server.restoring import restore as make_data_dir

    peer_urls = parse_urls(initial_advertise_peer_urls or DEFAULT_PEER_URL, flag="--initial-advertise-peer-urls")
    config = ServerConfig(
        name=name,
        data_dir=Path(data_dir or f"{name}.raftkv"),
        initial_advertise_peer_urls=peer_urls,
        initial_cluster=parse_initial_cluster(initial_cluster) if initial_cluster else {},
        initial_cluster_token=initial_cluster_token or DEFAULT_TOKEN,
    )
    identity = make_data_dir(path, config, skip_hash_check=skip_hash_check)
    click.echo(
        f"restored {path} to {config.data_dir}: member {identity.member_id:x} ({name}) of cluster {identity.cluster_id:x}",
        err=True,
    )


def _existing(text: str, what: str) -> Path:
    """Raises Failure, in etcdctl's words: there is no such file."""
    path = Path(text)
    if not path.is_file():
        reason = "is a directory" if path.is_dir() else "no such file or directory"
        raise Failure(f"{what} {text}: {reason}")
    return path
