"""Three nodes of raftkv or etcd, with links that can be cut: between the nodes, and between each node and its clients.

    client ──► client links ──► n1, n2, n3 ◄──► peer links ◄──► n1, n2, n3

raftkv's peer links are those of its local cluster; etcd's are gates. What may not live here: faults and figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import permutations
from typing import Self

import grpc

from benchmarks import measure
from benchmarks.disks import disks_at
from raftkv.lab import probe
from raftkv.lab.cluster import SERVE, LocalCluster
from raftkv.lab.links import Mode, ProxyControl, Rule
from raftkv.lab.nodes import PROXY_READY_TEXT
from raftkv.lab.ports import LOOPBACK, hold_ports, port_of
from raftkv.pb import rpc_pb2

CLIENTS = "clients"
CUT = Rule(mode=Mode.CUT)
QUIET_S = 0.3
WAIT_S = 30.0
Pair = tuple[str, str]


class System:
    """One of the two systems, three nodes of it, running.

    Args:
        name: ``raftkv`` or ``etcd``.
        own_disks: give each node a small disk of its own. Needs root.
    """

    def __init__(self, name: str, *, own_disks: bool = False) -> None:
        self.name = name
        self._disks = ExitStack()
        names = ["n1", "n2", "n3"]
        gates = name == "etcd"
        holders = hold_ports(1 + len(names) * (2 if gates else 1))
        ports = iter([port_of(holder) for holder in holders])
        self._control_port = next(ports)
        self._client_ports = {node: next(ports) for node in names}
        self._gates = {node: next(ports) for node in names} if gates else {}
        arguments = ",".join(f"{node}={port}" for node, port in self._gates.items())
        command = [sys.executable, "-m", "benchmarks.etcd_node", arguments] if gates else SERVE
        self.cluster = LocalCluster.temporary(command=command, proxy=not gates, parent=measure.scratch_directory())
        self._proxy: subprocess.Popen[str] | None = None
        self._peer_cuts: set[Pair] = set()
        self._client_cuts: set[str] = set()
        try:
            for holder in holders:
                holder.close()  # The proxy listens on them from now on.
            self._start_proxy()
            if own_disks:
                images = measure.scratch_directory() / f"disks-{os.getpid()}-{name}"
                self._disks.enter_context(disks_at([self.cluster.data_path(node) for node in names], images))
            self.cluster.up()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process and remove the data."""
        self.cluster.down(keep_data=True)
        self._disks.close()  # While nobody uses them any more, and before the directories below them go.
        self.cluster.down()
        if self._proxy is not None:
            self._proxy.terminate()
            self._proxy.wait()
            assert self._proxy.stderr is not None
            self._proxy.stderr.close()

    @property
    def names(self) -> list[str]:
        return list(self._client_ports)

    def endpoints(self, *, first: str) -> list[str]:
        """Where clients reach the nodes, through links that can be cut; ``first`` at the head."""
        return [f"{LOOPBACK}:{self._client_ports[node]}" for node in sorted(self.names, key=lambda node: node != first)]

    def answers(self) -> Mapping[str, probe.NodeAnswer | str]:
        """What each node says of itself, asked past all cuts."""
        return probe.statuses(self.cluster.endpoints, deadline_s=1.0)

    def term(self) -> int:
        """The highest term that any node knows."""
        return max(
            (answer.term for answer in self.answers().values() if isinstance(answer, probe.NodeAnswer)), default=0
        )

    def wait_until_quiet(self) -> str:
        """Wait until all nodes follow one leader and have applied the same, for a moment; who leads.

        Raises:
            TimeoutError: they do not.
        """
        deadline, since, before = time.monotonic() + WAIT_S, time.monotonic(), None
        while time.monotonic() < deadline:
            answers = self.answers()
            leader = _agreed(answers)
            if leader is None or leader != before:
                before, since = leader, time.monotonic()
            elif time.monotonic() - since >= QUIET_S:
                return leader[0]
            time.sleep(0.02)
        raise TimeoutError(f"{self.name} is not quiet after {WAIT_S:g} s: {answers}")

    def move_leader(self, leader: str, target: str) -> None:
        """Ask the leader to hand over (etcd's MoveLeader)."""
        answers = self.answers()
        to = answers[target]
        assert isinstance(to, probe.NodeAnswer), f"{target}: {to}"
        with grpc.insecure_channel(self.cluster.endpoint(leader)) as channel:
            channel.unary_unary(
                "/etcdserverpb.Maintenance/MoveLeader",
                request_serializer=rpc_pb2.MoveLeaderRequest.SerializeToString,
                response_deserializer=rpc_pb2.MoveLeaderResponse.FromString,
            )(rpc_pb2.MoveLeaderRequest(targetID=to.member_id), timeout=WAIT_S)

    # Links.

    def cut_peers(self, pairs: Sequence[Pair]) -> None:
        """Hold all bytes from the first to the second node of each pair, and nothing else."""
        rules = dict.fromkeys(pairs, CUT)
        if self._gates:
            self._peer_cuts = set(pairs)
            self._set_own_rules()
        else:
            self.cluster.set_rules(rules)

    def cut_clients(self, nodes: Sequence[str]) -> None:
        """Hold all bytes between clients and these nodes, and no others."""
        self._client_cuts = set(nodes)
        self._set_own_rules()

    def both_ways(self, node: str, others: Sequence[str]) -> list[Pair]:
        return [pair for pair in permutations(self.names, 2) if node in pair and set(pair) & set(others)]

    def heal_links(self) -> None:
        """Open every link."""
        self.cut_clients([])
        self.cut_peers([])

    def _set_own_rules(self) -> None:
        rules = dict.fromkeys(self._peer_cuts, CUT)
        for node in self._client_cuts:
            rules[CLIENTS, _client_side(node)] = rules[_client_side(node), CLIENTS] = CUT
        ProxyControl(self._control_port, self.cluster.state.token).set_rules(rules)

    def _start_proxy(self) -> None:
        state = self.cluster.state
        settings = {
            "token": state.token,
            "control_port": self._control_port,
            "links": [(CLIENTS, _client_side(node), port) for node, port in self._client_ports.items()],
            "targets": {
                CLIENTS: 0,
                **{_client_side(node): state.nodes[node].client_port for node in self.names},
                **{node: state.nodes[node].peer_port for node in self._gates},
            },
            "gates": list(self._gates.items()),
        }
        command = [sys.executable, "-m", "raftkv.lab.proxy"]
        self._proxy = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._proxy.stdin is not None
        assert self._proxy.stderr is not None
        with self._proxy.stdin as stdin:
            stdin.write(json.dumps(settings) + "\n")
        while PROXY_READY_TEXT not in (line := self._proxy.stderr.readline()):
            if not line:
                raise RuntimeError(f"the proxy ended with status {self._proxy.wait()}")


def _client_side(node: str) -> str:
    return f"{node}:clients"


def _agreed(answers: Mapping[str, probe.NodeAnswer | str]) -> tuple[str, int] | None:
    """Leader and term, if every node answers, names the same leader in the same term, and none lags."""
    found = [answer for answer in answers.values() if isinstance(answer, probe.NodeAnswer)]
    leader = probe.leader_of(answers)
    if len(found) < len(answers) or leader is None or len({(a.leader_id, a.term) for a in found}) != 1:
        return None
    if max(a.applied_index for a in found) - min(a.applied_index for a in found) > 500:
        return None
    return leader, found[0].term
