"""Starts the processes of a local cluster: which flags, which environment, which log, and when one counts as ready.

What may not live here: decisions about *whether* to start something (``cluster.py``).
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from raftkv.lab import logs
from raftkv.lab.errors import LabError
from raftkv.lab.ports import HOLDING_WORKS, hold_again, port_of
from raftkv.lab.process import TOKEN_VARIABLE, ProcessRef, exit_status, spawn
from raftkv.lab.state import ClusterState, NodeState

NODE_READY_TEXT = "ready to serve client requests"
PROXY_READY_TEXT = "proxy is ready"
_PROXY_DEADLINE_S = 10.0
_POLL_S = 0.01
_LOG_LINES_SHOWN = 12


class Launcher:
    """Holds the ports of one cluster and starts its processes, which inherit the holders."""

    def __init__(self, directory: Path, holders: Sequence[socket.socket]) -> None:
        self._directory = directory
        self._holders = list(holders)
        if not HOLDING_WORKS:
            self.release()

    def data_path(self, name: str) -> Path:
        return self._directory / f"{name}.raftkv"

    def log_path(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def hold(self, state: ClusterState) -> None:
        """Hold those ports of the cluster on which nobody listens, unless we do already."""
        if HOLDING_WORKS:
            held = {port_of(holder) for holder in self._holders}
            self._holders += hold_again(port for port in state.ports if port not in held)

    def release(self) -> None:
        """Let go of all ports."""
        for holder in self._holders:
            holder.close()
        self._holders.clear()

    def start_node(self, state: ClusterState, node: NodeState) -> None:
        """Start a node's process and note it in the state. It is not ready yet.

        Raises:
            LabError: the command cannot be started.
        """
        command = [*state.command, *self._node_flags(state, node), *state.flags]
        node.log_offset = _size(self.log_path(node.name))
        node.process = self._spawn(command, node.name, state.token)
        node.ended = None
        node.starts += 1

    def start_proxy(self, state: ClusterState) -> None:
        """Start the proxy unless it runs, and wait until it is ready: nodes dial at once. All links are open then.

        Raises:
            LabError: it is not ready in time.
        """
        proxy = state.proxy
        if proxy is None or (proxy.process is not None and proxy.process.alive):
            return
        settings = {
            "token": state.token,
            "control_port": proxy.control_port,
            "links": [(link.source, link.target, link.port) for link in proxy.links],
            "targets": {name: node.peer_port for name, node in state.nodes.items()},
        }
        proxy.log_offset = _size(self.log_path("proxy"))
        reading, writing = os.pipe()
        try:
            proxy.process = self._spawn([sys.executable, "-m", "raftkv.lab.proxy"], "proxy", state.token, stdin=reading)
            os.write(writing, json.dumps(settings).encode() + b"\n")
        finally:
            os.close(reading)
            os.close(writing)
        end = time.monotonic() + _PROXY_DEADLINE_S
        while PROXY_READY_TEXT not in logs.read_from(self.log_path("proxy"), proxy.log_offset):
            if not proxy.process.alive or time.monotonic() > end:
                said = "\n  ".join(logs.tail(self.log_path("proxy"), 12, offset=proxy.log_offset))
                raise LabError(f"the proxy between the nodes did not start. It has logged:\n  {said}")
            time.sleep(_POLL_S)

    def wait_ready(self, nodes: Sequence[NodeState], *, deadline_s: float) -> None:
        """Wait until nodes have said, since their last start, that they serve clients.

        Raises:
            LabError: one has ended, or takes too long; its last log lines stand in the message.
        """
        end = time.monotonic() + deadline_s
        for node in nodes:
            while NODE_READY_TEXT not in logs.read_from(self.log_path(node.name), node.log_offset):
                status = exit_status(node.process.pid) if node.process is not None else None
                if not node.alive:
                    raise LabError(
                        self._failure(node, f"ended with status {status}" if status is not None else "ended")
                    )
                if time.monotonic() > end:
                    raise LabError(self._failure(node, f"is not ready after {deadline_s:g} s"))
                time.sleep(_POLL_S)

    def _failure(self, node: NodeState, what: str) -> str:
        lines = logs.tail(self.log_path(node.name), _LOG_LINES_SHOWN, offset=node.log_offset)
        shown = "".join(f"\n  {line}" for line in lines) or " (nothing)"
        return f"{node.name} {what}. It has logged:{shown}"

    def _node_flags(self, state: ClusterState, node: NodeState) -> list[str]:
        flags = {
            "--name": node.name,
            "--data-dir": str(self.data_path(node.name)),
            "--listen-client-urls": node.client_url,
            "--advertise-client-urls": node.client_url,
            "--listen-peer-urls": node.peer_url,
            "--initial-advertise-peer-urls": node.peer_url,
            "--initial-cluster": ",".join(f"{other.name}={other.peer_url}" for other in state.nodes.values()),
            "--initial-cluster-state": "existing" if node.joined else "new",
            "--initial-cluster-token": state.token,
        }
        through_proxy = [
            ("--peer-dial", f"{link.target}=127.0.0.1:{link.port}")
            for link in (state.proxy.links if state.proxy is not None else ())
            if link.source == node.name
        ]
        if node.http_url is not None:
            flags["--listen-client-http-urls"] = node.http_url
        return [word for pair in [*flags.items(), *through_proxy] for word in pair]

    def _spawn(self, command: Sequence[str], name: str, token: str, *, stdin: int | None = None) -> ProcessRef:
        # A variable meant for somebody's own server or client must not configure ours.
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAFTKV_", "ETCD_", "ETCDCTL_"))}
        try:
            return spawn(
                command,
                log=self.log_path(name),
                environment=kept | {TOKEN_VARIABLE: token},
                inherit=[holder.fileno() for holder in self._holders],
                stdin=stdin,
            )
        except OSError as error:
            raise LabError(f"cannot start {name}: {command[0]}: {error.strerror}") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
