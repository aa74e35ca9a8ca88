"""`raftkv serve`: run one node until SIGTERM or Ctrl-C.

Flags are etcd's; each is also read from `RAFTKV_<FLAG>` and, as an alias, `ETCD_<FLAG>`.

What may not live here: checking values (`raftkv.config` does) and what a node consists of (`raftkv.server`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own log lines would stand between ours; read on import.

import click
import uvloop

from raftkv.cli.options import Duration
from raftkv.config import (
    DEFAULT_CLIENT_URL,
    DEFAULT_PEER_URL,
    DEFAULT_TOKEN,
    ServerConfig,
    parse_initial_cluster,
    parse_urls,
)
from raftkv.errors import ConfigError
from raftkv.server import Door, Server, Sources
from raftkv.version import ETCD_API_VERSION, __version__

log = logging.getLogger("raftkv")

F = TypeVar("F", bound=Callable[..., Any])

LOG_LEVELS = ("debug", "info", "warn", "error")
GIL_SWITCH_S = 0.001
"""How long the apply thread may keep the interpreter while the event loop wants it; Python's 5 ms would be seen in latency."""

EXAMPLES = """\b
Examples:
  raftkv serve
      a store of one node on 127.0.0.1:2379, data in ./default.raftkv
  raftkv serve --name n1 --initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380 \\
      --listen-peer-urls http://10.0.0.1:2380 --listen-client-urls http://10.0.0.1:2379
      one of three nodes; start the other two likewise
"""


def flag(name: str, *, etcd_name: str = "", **attributes: Any) -> Callable[[F], F]:
    """An option that is also read from RAFTKV_NAME and ETCD_NAME; `etcd_name`: what etcd calls it, where that differs."""
    names = [name, etcd_name] if etcd_name else [name]
    ours, theirs = (names[at].removeprefix("--").replace("-", "_").upper() for at in (0, -1))
    attributes = {"show_default": True, **attributes}
    parameter = name.removeprefix("--").replace("-", "_")
    return click.option(*names, parameter, envvar=[f"RAFTKV_{ours}", f"ETCD_{theirs}"], **attributes)


@click.command(
    "serve", epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@flag("--name", default="default", metavar="NAME", help="This member's name.")
@flag("--data-dir", default=None, metavar="DIR", show_default="NAME.raftkv", help="Where this node keeps its data.")
@flag("--listen-client-urls", default=DEFAULT_CLIENT_URL, metavar="URLS", help="Where clients are served.")
@flag(
    "--advertise-client-urls", default="", show_default="the listen URLs", metavar="URLS", help="What clients are told."
)
@flag(
    "--listen-client-http-urls",
    default="",
    show_default="nowhere",
    metavar="URLS",
    help="Where JSON (/v3/...), health checks and metrics are served.",
)
@flag(
    "--listen-metrics-urls",
    default="",
    show_default="the HTTP URLs",
    metavar="URLS",
    help="Where /metrics and /health alone are served.",
)
@flag("--listen-peer-urls", default=DEFAULT_PEER_URL, metavar="URLS", help="Where peers are served.")
@flag(
    "--initial-advertise-peer-urls",
    default="",
    show_default="the listen URLs",
    metavar="URLS",
    help="What peers are told.",
)
@flag(
    "--initial-cluster", default="", show_default="this node alone", metavar="NAME=URL,...", help="The first members."
)
@flag("--initial-cluster-state", default="new", type=click.Choice(["new", "existing"]), help="Start or join a cluster.")
@flag("--initial-cluster-token", default=DEFAULT_TOKEN, metavar="TOKEN", help="Tells clusters apart.")
@flag("--heartbeat-interval", default=50, metavar="MS", help="Time between a leader's heartbeats.")
@flag("--election-timeout", default=300, metavar="MS", help="Silence before an election; at least 5 heartbeats.")
@flag("--snapshot-count", default=10_000, metavar="N", help="Log entries kept for followers that lag.")
@flag(
    "--quota-backend-bytes", default=2 * 1024**3, metavar="BYTES", help="Database size beyond which puts are refused."
)
@flag("--max-request-bytes", default=3 * 1024**2 // 2, metavar="BYTES", help="Largest request.")
@flag("--max-txn-ops", default=128, metavar="N", help="Most operations in a transaction.")
@flag("--max-watches-per-connection", default=20_000, metavar="N", help="Most watches of one client connection.")
@flag(
    "--watch-progress-notify-interval",
    default="10m",
    type=Duration(),
    metavar="DURATION",
    help="How often an idle watch that asked for it says how far it is.",
)
@flag(
    "--corrupt-check-time",
    etcd_name="--experimental-corrupt-check-time",
    default="1h",
    type=Duration(zero=True),
    metavar="DURATION",
    help="How often the leader compares the members' data; 0: never.",
)
@flag("--log-level", default="info", type=click.Choice(LOG_LEVELS), help="How much is logged, to stderr.")
@flag("--enable-drills", is_flag=True, default=False, help="Let `raftkv drill` break this node on purpose.")
@flag("--watchdog-fsync", default=300, metavar="MS", help="A longer log write makes a node unfit to lead; 0: never.")
@flag("--watchdog-apply", default=1_000, metavar="MS", help="So does a state machine that does not move for so long.")
@flag("--watchdog-loop", default=250, metavar="MS", help="So does an event loop that is held up so long, repeatedly.")
@flag("--watchdog-disk-free", default=64 * 1024**2, metavar="BYTES", help="So does less free space on the disk.")
@flag("--watchdog-recovery", default=10_000, metavar="MS", help="After so long without a sign, it is fit again.")
@flag(
    "--peer-dial", default=(), multiple=True, metavar="NAME=HOST:PORT", help="Dial a member there, not at its peer URL."
)
def serve(**flags: Any) -> None:
    """Run a node until SIGTERM or Ctrl-C.

    Without flags: a store of one node on 127.0.0.1:2379. Flags are etcd's; each is also read from RAFTKV_<FLAG> and
    ETCD_<FLAG>, with '-' written as '_'.
    """
    config = config_from(flags)
    set_up_logging(config)
    sys.setswitchinterval(GIL_SWITCH_S)
    uvloop.run(run(config))


def config_from(flags: dict[str, Any]) -> ServerConfig:
    """Turn flags into a checked configuration.

    Raises:
        ConfigError: a value is wrong; one line that names the flag and what is allowed.
    """
    data_dir = Path(flags["data_dir"] or f"{flags['name']}.raftkv")

    def urls(name: str) -> tuple[str, ...]:
        text = flags[name]
        return parse_urls(text, flag=f"--{name.replace('_', '-')}") if text else ()

    return ServerConfig(
        name=flags["name"],
        data_dir=data_dir,
        listen_client_urls=urls("listen_client_urls"),
        advertise_client_urls=urls("advertise_client_urls"),
        listen_client_http_urls=urls("listen_client_http_urls"),
        listen_metrics_urls=urls("listen_metrics_urls"),
        listen_peer_urls=urls("listen_peer_urls"),
        initial_advertise_peer_urls=urls("initial_advertise_peer_urls"),
        initial_cluster=parse_initial_cluster(flags["initial_cluster"]) if flags["initial_cluster"] else {},
        initial_cluster_state=flags["initial_cluster_state"],
        initial_cluster_token=flags["initial_cluster_token"],
        heartbeat_interval_ms=flags["heartbeat_interval"],
        election_timeout_ms=flags["election_timeout"],
        snapshot_count=flags["snapshot_count"],
        quota_backend_bytes=flags["quota_backend_bytes"],
        max_request_bytes=flags["max_request_bytes"],
        max_txn_ops=flags["max_txn_ops"],
        max_watches_per_connection=flags["max_watches_per_connection"],
        watch_progress_notify_interval_s=flags["watch_progress_notify_interval"],
        corrupt_check_time_s=flags["corrupt_check_time"],
        log_level=flags["log_level"],
        watchdog_fsync_ms=flags["watchdog_fsync"],
        watchdog_apply_ms=flags["watchdog_apply"],
        watchdog_loop_ms=flags["watchdog_loop"],
        watchdog_disk_free_bytes=flags["watchdog_disk_free"],
        watchdog_recovery_ms=flags["watchdog_recovery"],
        enable_drills=flags["enable_drills"],
        peer_dial=dict(_peer_dial(item) for item in flags["peer_dial"]),
    )


def _peer_dial(item: str) -> tuple[str, str]:
    name, equals, address = item.partition("=")
    host, colon, port = address.rpartition(":")
    if not (equals and name and colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigError(f"--peer-dial: {item!r} is not of the form NAME=HOST:PORT")
    return name, address


def set_up_logging(config: ServerConfig) -> None:
    """One line an event, on stderr: time, level, member, text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)-7s {config.name} %(message)s"))
    root = logging.getLogger("raftkv")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel({"warn": "WARNING"}.get(config.log_level, config.log_level.upper()))


def doors_of(config: ServerConfig, sources: Sources) -> list[Door]:
    """The ports that speak HTTP, if there are any. What they need is imported only then: it is half as much again."""
    if not (config.listen_client_http_urls or config.listen_metrics_urls):
        return []
    from raftkv.gateway import Probes, client_door, metrics_door
    from raftkv.metrics import Metrics

    probes = Probes(sources)
    metrics = Metrics(sources, probes)
    doors: list[Door] = []
    if config.listen_client_http_urls:
        doors.append(client_door(sources, probes, metrics.render))
    if config.listen_metrics_urls:
        doors.append(metrics_door(sources, probes, metrics.render))
    return doors


async def run(config: ServerConfig) -> None:
    """Start a node, run it until a signal or an error, stop it."""
    server = Server(config, doors=lambda sources: doors_of(config, sources))
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    log.info("raftkv %s (etcd API %s)", __version__, ETCD_API_VERSION)
    await server.start()
    log.info("ready to serve client requests on %s", ", ".join(config.listen_client_urls))
    if config.listen_client_http_urls:
        log.info("JSON, health checks and metrics are served on %s", ", ".join(config.listen_client_http_urls))
    waiting = [asyncio.ensure_future(server.wait()), asyncio.ensure_future(signalled.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping%s", ": handing leadership over" if signalled.is_set() else "")
    await server.stop()
    for task in waiting:
        task.cancel()
    if waiting[0].done() and not waiting[0].cancelled():
        waiting[0].result()
    log.info("stopped")
