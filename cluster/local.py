"""A local raftkv cluster of real processes: ``python cluster/local.py up``, and what can be done to it afterwards.

A thin face of ``raftkv.lab``: it reads arguments and prints. Its state is in a directory (``.raftkv/local`` by default), so that
each command may be given in another shell.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from raftkv.errors import RaftkvError
from raftkv.lab import logs
from raftkv.lab import state as state_file
from raftkv.lab.cluster import SERVE, LocalCluster, NodeStatus
from raftkv.lab.members import replace_member
from raftkv.lab.probe import NodeAnswer
from raftkv.lab.rolling import rolling_restart

DEFAULT_DIRECTORY = Path(".raftkv/local")


class Commands(click.Group):
    """Errors of raftkv are one line on standard error and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RaftkvError as error:
            raise click.ClickException(str(error)) from error


def directory_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--dir",
        "directory",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_DIRECTORY,
        show_default=True,
        envvar="RAFTKV_LOCAL_DIR",
        help="Where the cluster keeps its state, data and logs.",
    )(command)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def local() -> None:
    r"""A cluster of real raftkv processes on this machine: start it, break it, watch it.

    \b
    python cluster/local.py up
    python cluster/local.py kill n2
    python cluster/local.py partition 'n1|n2,n3'
    python cluster/local.py status
    python cluster/local.py down
    """


@local.command()
@click.option("--nodes", type=click.IntRange(1, 9), default=None, help="How many nodes.  [default: 3]")
@click.option("--proxy/--no-proxy", default=True, show_default=True, help="Stand between the nodes, for `partition`.")
@click.option("--gateway", is_flag=True, help="Serve JSON, health checks and metrics too, on a port for each node.")
@click.option("--command", "server", default=None, help="Another server to run; it gets etcd's flags.")
@directory_option
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def up(
    nodes: int | None, proxy: bool, gateway: bool, server: str | None, directory: Path, flags: tuple[str, ...]
) -> None:
    """Start a cluster, or start the one in --dir again if it is down. FLAGS (after --) go to every node."""
    if state_file.exists(directory):
        cluster = LocalCluster.load(directory)
        if any(cluster.pid(name) for name in cluster.names):
            raise click.ClickException(f"the cluster in {directory} is running; `status` shows it, `down` ends it")
        if nodes not in (None, len(cluster.names)) or flags or server or gateway:
            raise click.ClickException(
                f"{directory} holds a cluster of {len(cluster.names)} nodes, which `up` alone starts again; "
                "`down` removes it"
            )
    else:
        command = server.split() if server else SERVE
        cluster = LocalCluster.create(
            directory, nodes=nodes or 3, proxy=proxy, gateway=gateway, command=command, flags=flags
        )
    try:
        cluster.up()
    except BaseException:
        cluster.down(keep_data=True)
        raise
    click.echo(f"{len(cluster.names)} nodes are serving; data and logs are in {directory}\n")
    for name, node in cluster.state.nodes.items():
        click.echo(f"  {name}  {node.endpoint}" + (f"  {node.http_url}/v3/" if node.http_url else ""))
    endpoints = ",".join(cluster.endpoints.values())
    click.echo(f"\nexport ETCDCTL_ENDPOINTS={endpoints} ETCDCTL_API=3\nexport RAFTKV_ENDPOINTS={endpoints}")


@local.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@directory_option
def status(as_json: bool, directory: Path) -> None:
    """Show every node: its process, its role, and the links that are cut."""
    cluster = LocalCluster.load(directory)
    nodes = cluster.status()
    cuts = [f"{a}>{b} {rule.mode.value}" for (a, b), rule in sorted(cluster.rules().items())]
    if as_json:
        click.echo(json.dumps({"nodes": [_node_as_json(node) for node in nodes], "links": cuts}))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("NODE", "PROCESS", "PID", "ENDPOINT", "ROLE", "TERM", "APPLIED", "REVISION"):
        table.add_column(title)
    for node in nodes:
        table.add_row(node.name, node.state, str(node.pid or "-"), node.endpoint, *_answer_columns(node.answer))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if cuts:
        click.echo("links: " + ", ".join(cuts))


@local.command()
@click.argument("names", nargs=-1, required=True, metavar="NODE...")
@directory_option
def kill(names: tuple[str, ...], directory: Path) -> None:
    """SIGKILL nodes: they die at once."""
    LocalCluster.load(directory).kill(*names)


@local.command()
@click.argument("names", nargs=-1, required=True, metavar="NODE...")
@directory_option
def stop(names: tuple[str, ...], directory: Path) -> None:
    """SIGTERM nodes: they hand leadership over and end."""
    LocalCluster.load(directory).stop(*names)


@local.command()
@click.argument("names", nargs=-1, required=True, metavar="NODE...")
@directory_option
def pause(names: tuple[str, ...], directory: Path) -> None:
    """SIGSTOP nodes: they hang, with their sockets open."""
    LocalCluster.load(directory).pause(*names)


@local.command()
@click.argument("names", nargs=-1, metavar="[NODE...]")
@directory_option
def resume(names: tuple[str, ...], directory: Path) -> None:
    """SIGCONT paused nodes, all of them by default."""
    cluster = LocalCluster.load(directory)
    cluster.resume(*(names or [name for name in cluster.names if cluster.process_state(name) == "paused"]))


@local.command()
@click.argument("names", nargs=-1, metavar="[NODE...]")
@directory_option
def restart(names: tuple[str, ...], directory: Path) -> None:
    """Stop nodes that run and start them again with their data. Without names: start those that are not running."""
    cluster = LocalCluster.load(directory)
    absent = [name for name in cluster.names if cluster.pid(name) is None]
    if names:
        cluster.restart(*names)
    elif absent:
        cluster.start(absent)
    else:
        raise click.ClickException("all nodes are running; name those to restart: " + " ".join(cluster.names))


@local.command("replace")
@click.argument("name", metavar="NODE")
@directory_option
def replace_member_of(name: str, directory: Path) -> None:
    """Put another member in a node's place, with an empty data directory, while the others go on."""
    old, new = replace_member(LocalCluster.load(directory), name)
    click.echo(f"member {old:x} is removed; {name} is member {new:x} now")


@local.command("rolling-restart")
@click.option("--load", type=click.FloatRange(0), default=500, show_default=True, help="Writes a second meanwhile.")
@directory_option
def restart_rolling(load: float, directory: Path) -> None:
    """Restart all nodes one by one (SIGTERM) under load; exit status 1 if any request of a client failed."""
    found = asyncio.run(rolling_restart(LocalCluster.load(directory), load=load, tell=click.echo))
    click.echo(
        f"{found.requests + found.load_requests:,} requests with the default deadline, {found.failed.total()} failed; the longest "
        f"time without a write was {found.write_outage_s * 1000:.0f} ms, without a read {found.read_outage_s * 1000:.0f} ms; "
        f"{len(found.lost)} acknowledged writes lost; the history is {found.linearizable}"
    )
    for kind, count in found.failed.items():
        click.echo(f"  {count} x {kind}")
    sys.exit(0 if found.ok else 1)


@local.command()
@click.argument("groups", metavar="GROUPS")
@directory_option
def partition(groups: str, directory: Path) -> None:
    """Cut all links between GROUPS of nodes, as in 'n1|n2,n3'. The bytes are held, silently, until `heal`."""
    cut = LocalCluster.load(directory).partition(groups)
    click.echo("cut: " + " | ".join(",".join(group) for group in cut))


@local.command("cut")
@click.argument("sources")
@click.argument("targets")
@directory_option
def cut_one_way(sources: str, targets: str, directory: Path) -> None:
    """Cut one way only: TARGETS no longer hear SOURCES (names with commas), which still hear them."""
    LocalCluster.load(directory).cut_one_way(sources.split(","), targets.split(","))


@local.command()
@directory_option
def heal(directory: Path) -> None:
    """Open all links between the nodes."""
    LocalCluster.load(directory).heal()


@local.command("logs")
@click.argument("names", nargs=-1, metavar="[NODE...]")
@click.option("-f", "--follow", is_flag=True, help="Go on with lines as they are written.")
@click.option("-n", "--lines", type=click.IntRange(0), default=20, show_default=True, help="How many last lines.")
@directory_option
def show_logs(names: tuple[str, ...], follow: bool, lines: int, directory: Path) -> None:
    """Show the last lines of the nodes' logs, of all nodes by default."""
    cluster = LocalCluster.load(directory)
    shown = names or tuple(cluster.names)
    for name in shown:
        for line in cluster.log_tail(name, lines):
            click.echo(f"{name} | {line}")
    if follow:
        for name, line in logs.follow({name: cluster.log_path(name) for name in shown}):
            click.echo(f"{name} | {line}")


@local.command()
@click.option("--keep-data", is_flag=True, help="Stop the nodes in an orderly way; `up` starts them again.")
@directory_option
def down(keep_data: bool, directory: Path) -> None:
    """End every process, and remove data and logs."""
    LocalCluster.load(directory).down(keep_data=keep_data)


def _answer_columns(answer: NodeAnswer | str) -> tuple[str, ...]:
    if isinstance(answer, str):
        return (answer, "-", "-", "-")
    role = "leader" if answer.leads else "follower" if answer.leader_id else "no leader"
    return (role, str(answer.term), str(answer.applied_index), str(answer.revision))


def _node_as_json(node: NodeStatus) -> dict[str, Any]:
    raw = asdict(node) | {"answer": None, "error": None}
    if isinstance(node.answer, NodeAnswer):
        return raw | {"answer": asdict(node.answer) | {"leads": node.answer.leads}}
    return raw | {"error": node.answer}


if __name__ == "__main__":
    local(prog_name="local.py")
