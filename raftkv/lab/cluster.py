"""LocalCluster: real nodes, one process each, on loopback, with their state in a directory.

    <directory>/cluster.json        which processes belong to it (state.py)
                cluster.lock        held while that changes
                n1.raftkv/ n1.log   data and log of node n1, and so on
                proxy.log           the proxy between the nodes, if there is one

Everything works from another process too: every operation takes the lock and reads the file. What this object itself holds is
only what a process can hold: ports (``ports.py``), children to reap, and the leash of a cluster that must not outlive us.

The API blocks; from asyncio call it in a thread. What may not live here: printing, and anything that reads or writes keys.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals
from types import TracebackType
from typing import Self

from raftkv.lab import logs, probe
from raftkv.lab import state as state_file
from raftkv.lab.errors import LabError
from raftkv.lab.leash import Leash
from raftkv.lab.links import OPEN, Mode, ProxyControl, Rule, Rules, one_way_rules, parse_groups, partition_rules
from raftkv.lab.nodes import Launcher
from raftkv.lab.plan import planned
from raftkv.lab.ports import is_taken
from raftkv.lab.process import TOKEN_VARIABLE, ProcessState, end_all, exit_status, processes_with, wait_until
from raftkv.lab.state import ClusterState, NodeState

SERVE: tuple[str, ...] = (sys.executable, "-m", "raftkv", "serve")
NODES_MAX = 9
READY_DEADLINE_S = 20.0
_STOP_GRACE_S = 10.0
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class NodeStatus:
    """What is known about one node.

    Attributes:
        state: as ``LocalCluster.process_state`` says it.
        answer: what it says about itself, or why it says nothing.
    """

    name: str
    state: str
    pid: int | None
    endpoint: str
    answer: probe.NodeAnswer | str


class LocalCluster:
    """A cluster in a directory. Make one with ``create`` or ``temporary``, find one with ``load``."""

    def __init__(self, directory: Path, launcher: Launcher, leash: Leash | None = None) -> None:
        self.directory = directory
        self._launcher = launcher
        self._leash = leash

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        nodes: int = 3,
        proxy: bool = True,
        gateway: bool = False,
        command: Sequence[str] = SERVE,
        flags: Sequence[str] = (),
        leashed: bool = False,
        remove: bool = False,
    ) -> LocalCluster:
        """Choose ports and write the state of a new cluster. Nothing is started yet.

        Args:
            directory: where everything of the cluster is kept; made if need be.
            nodes: how many, 1 to 9.
            proxy: put a proxy between the nodes, so that links can be cut. Needs a server that knows ``--peer-dial``.
            gateway: have each node serve JSON, health checks and metrics on a port of its own.
            command: what serves; it gets etcd's flags.
            flags: more of them, for every node.
            leashed: no process of the cluster outlives this one.
            remove: with ``leashed``: neither does the directory.

        Raises:
            LabError: the number of nodes is out of range, there is a cluster already, or no ports are free.
        """
        if not 1 <= nodes <= NODES_MAX:
            raise LabError(f"a local cluster has 1 to {NODES_MAX} nodes, not {nodes}")
        directory = directory.absolute()
        state_file.make_directory(directory)
        state, holders = planned(nodes, proxy=proxy, gateway=gateway, command=command, flags=flags)
        with state_file.locked(directory):
            if state_file.exists(directory):
                raise LabError(f"there is a cluster in {directory} already")
            state_file.save(directory, state)
        leash = Leash.fasten(directory, state.token, remove=remove) if leashed else None
        return cls(directory, Launcher(directory, holders), leash)

    @classmethod
    def temporary(
        cls,
        *,
        nodes: int = 3,
        proxy: bool = True,
        gateway: bool = False,
        command: Sequence[str] = SERVE,
        flags: Sequence[str] = (),
        parent: Path | None = None,
    ) -> LocalCluster:
        """A cluster in a fresh directory (below ``parent``), which goes with it: ``with LocalCluster.temporary() as c:``."""
        directory = Path(tempfile.mkdtemp(prefix="raftkv-lab-", dir=parent))
        try:
            return cls.create(
                directory,
                nodes=nodes,
                proxy=proxy,
                gateway=gateway,
                command=command,
                flags=flags,
                leashed=True,
                remove=True,
            )
        except BaseException:
            shutil.rmtree(directory)
            raise

    @classmethod
    def load(cls, directory: Path) -> LocalCluster:
        """The cluster whose state is in ``directory``.

        Raises:
            LabError: there is none.
        """
        directory = directory.absolute()
        state_file.load(directory)
        return cls(directory, Launcher(directory, []))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # What is there.

    @property
    def state(self) -> ClusterState:
        """The state file as it is now."""
        return state_file.load(self.directory)

    @property
    def names(self) -> list[str]:
        return list(self.state.nodes)

    @property
    def endpoints(self) -> dict[str, str]:
        """``host:port`` where each node serves clients."""
        return {name: node.endpoint for name, node in self.state.nodes.items()}

    def endpoint(self, name: str) -> str:
        return self._node(self.state, name).endpoint

    def http_url(self, name: str) -> str:
        """Where a node serves JSON, health checks and metrics.

        Raises:
            LabError: nowhere: the cluster was made without.
        """
        url = self._node(self.state, name).http_url
        if url is None:
            raise LabError("this cluster has no gateway; start it with one")
        return url

    def peer_url(self, name: str) -> str:
        return self._node(self.state, name).peer_url

    def data_path(self, name: str) -> Path:
        return self._launcher.data_path(name)

    def log_path(self, name: str) -> Path:
        return self._launcher.log_path(name)

    def log_tail(self, name: str, lines: int = 20) -> list[str]:
        """The last lines that a node has logged.

        Raises:
            LabError: there is no such node.
        """
        self._node(self.state, name)
        return logs.tail(self.log_path(name), lines)

    def process_state(self, name: str) -> str:
        """Running or paused; stopped or killed if we ended it, crashed if it ended by itself; or not started."""
        node = self._node(self.state, name)
        self._reap(node)
        if node.process is None:
            return "not started"
        state = node.process.state
        return (node.ended or "crashed") if state is ProcessState.DEAD else state.value

    def pid(self, name: str) -> int | None:
        """The pid of a node's process; None if it has none."""
        node = self._node(self.state, name)
        return node.process.pid if node.process is not None and node.alive else None

    def status(self, *, deadline_s: float = 1.0) -> list[NodeStatus]:
        """Every node: what the kernel says about its process, and what it says about itself."""
        state = self.state
        running = {name: node.endpoint for name, node in state.nodes.items() if node.alive}
        answers = probe.statuses(running, deadline_s=deadline_s)
        return [
            NodeStatus(
                name=name,
                state=self.process_state(name),
                pid=self.pid(name),
                endpoint=node.endpoint,
                answer=answers.get(name, "no process"),
            )
            for name, node in state.nodes.items()
        ]

    def leader(self, *, deadline_s: float = 0.5) -> str | None:
        """The node that leads, as far as the nodes that answer know."""
        alive = {name: node.endpoint for name, node in self.state.nodes.items() if node.alive}
        return probe.leader_of(probe.statuses(alive, deadline_s=deadline_s))

    def wait_for_leader(self, *, other_than: str | None = None, deadline_s: float = 10.0) -> str:
        """Wait until a node leads.

        Raises:
            LabError: none does in time.
        """
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            leader = self.leader()
            if leader is not None and leader != other_than:
                return leader
            time.sleep(_POLL_S)
        raise LabError(f"no node leads after {deadline_s:g} s")

    # What can be done to nodes.

    def up(self, *, deadline_s: float = READY_DEADLINE_S) -> str:
        """Start every node, and return the leader's name once one leads and all have told all where they serve clients.

        Raises:
            LabError: as ``start`` and ``wait_for_leader`` do; or a node has not heard of all others in time.
        """
        self.start(deadline_s=deadline_s)
        leader = self.wait_for_leader(deadline_s=deadline_s)
        endpoints = self.endpoints
        if not wait_until(lambda: not probe.unannounced(endpoints), deadline_s):
            raise LabError(f"{', '.join(probe.unannounced(endpoints))} does not know all members' client URLs")
        return leader

    def start(
        self, names: Sequence[str] | None = None, *, wait: bool = True, deadline_s: float = READY_DEADLINE_S
    ) -> None:
        """Start nodes that are not running (all of them by default), and the proxy.

        Raises:
            LabError: a port is taken, a command cannot be started, or, with ``wait``, a node is not ready in time; then its
                last log lines stand in the message.
        """
        with self._edit() as state:
            nodes = [self._node(state, name) for name in (names if names is not None else state.nodes)]
            for node in nodes:
                self._reap(node)
            absent = [node for node in nodes if not node.alive]
            self._launcher.hold(state)
            self._launcher.start_proxy(state)
            for node in absent:
                for port in node.ports:
                    if is_taken(port):
                        raise LabError(f"{node.name} cannot start: port {port} is taken by another process")
                self._launcher.start_node(state, node)
        if wait:
            self.wait_ready([node.name for node in nodes], deadline_s=deadline_s)

    def wait_ready(self, names: Sequence[str] | None = None, *, deadline_s: float = READY_DEADLINE_S) -> None:
        """Wait until nodes serve clients.

        Raises:
            LabError: one has ended, or takes too long; its last log lines stand in the message.
        """
        state = self.state
        nodes = [self._node(state, name) for name in (names if names is not None else state.nodes)]
        self._launcher.wait_ready(nodes, deadline_s=deadline_s)

    def stop(self, *names: str) -> None:
        """SIGTERM, and wait until they have ended; SIGKILL for those that do not.

        Raises:
            LabError: there is no such node, or one had to be killed.
        """
        with self._edit() as state:
            nodes = [self._node(state, name) for name in names]
            processes = [node.process for node in nodes if node.process is not None]
            stubborn = end_all(processes, grace_s=_STOP_GRACE_S)
            for node in nodes:
                self._reap(node)
                node.ended = "stopped"
        if stubborn:
            raise LabError(f"{len(stubborn)} of {', '.join(names)} did not stop within {_STOP_GRACE_S:g} s: killed")

    def kill(self, *names: str) -> None:
        """SIGKILL; when this returns the processes are gone.

        Raises:
            LabError: there is no such node, or it is not running.
        """
        with self._edit() as state:
            nodes = [self._running(state, name) for name in names]
            for node in nodes:
                if node.process is not None:
                    node.process.send(SIGKILL)
                node.ended = "killed"
            if not wait_until(lambda: not any(node.alive for node in nodes), 5.0):
                raise LabError(f"{', '.join(names)} still there 5 s after SIGKILL: hung in the kernel?")
            for node in nodes:
                self._reap(node)

    def pause(self, *names: str) -> None:
        """SIGSTOP: the process hangs, its sockets stay open.

        Raises:
            LabError: there is no such node, or it is not running.
        """
        self._signal(names, SIGSTOP, ProcessState.PAUSED)

    def resume(self, *names: str) -> None:
        """SIGCONT.

        Raises:
            LabError: there is no such node, or it has no process.
        """
        self._signal(names, SIGCONT, ProcessState.RUNNING)

    def make_empty(self, name: str) -> None:
        """End a node whose member was removed, and remove its data: it is started next as a member that joins.

        Raises:
            LabError: there is no such node.
        """
        with self._edit() as state:
            node = self._node(state, name)
            if node.process is not None:
                end_all([node.process], grace_s=0)
            self._reap(node)
            node.ended = "stopped"
            node.joined = True
            shutil.rmtree(self.data_path(name), ignore_errors=True)

    def restart(self, *names: str, deadline_s: float = READY_DEADLINE_S) -> None:
        """Stop nodes that run, one after the other, and start each again with its data.

        Raises:
            LabError: as ``stop`` and ``start`` do.
        """
        for name in names:
            if self._node(self.state, name).alive:
                self.stop(name)
            self.start([name], deadline_s=deadline_s)

    # What can be done to the links between them.

    def partition(self, groups: str | Sequence[Sequence[str]], *, mode: Mode = Mode.CUT) -> list[list[str]]:
        """Cut all links between groups of nodes, in place of what was cut before: ``n1|n2,n3``.

        Nodes that are not named form a group of their own.

        Returns:
            The groups.

        Raises:
            LabError: a node is unknown, or the cluster has no proxy.
        """
        text = groups if isinstance(groups, str) else "|".join(",".join(group) for group in groups)
        parsed = parse_groups(text, self.names)
        self.set_rules(partition_rules(parsed, mode=mode))
        return parsed

    def cut_one_way(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        """Hold the bytes from sources to targets, in place of what was cut before; the other way stays open."""
        self.set_rules(one_way_rules(sources, targets))

    def delay(self, seconds: float) -> None:
        """Let every byte between any two nodes arrive so much later, in place of what was cut before."""
        self.set_rules({pair: Rule(delay_s=seconds) for pair in permutations(self.names, 2)})

    def heal(self) -> None:
        """Open all links."""
        self.set_rules({})

    def set_rules(self, rules: Rules) -> None:
        """Replace all rules of all links.

        Raises:
            LabError: a node is unknown, or the cluster has no proxy.
        """
        self._control().set_rules(rules)

    def rules(self) -> Mapping[tuple[str, str], Rule]:
        """The rules in force that are not plainly open; none where there is no proxy."""
        proxy = self.state.proxy
        if proxy is None or proxy.process is None or not proxy.process.alive:
            return {}
        return {pair: rule for pair, rule in self._control().rules().items() if rule != OPEN}

    # The end.

    def down(self, *, keep_data: bool = False) -> None:
        """End every process; remove data, logs and state unless they are to be kept. Can be called twice."""
        if state_file.exists(self.directory):
            with self._edit() as state:
                end_all(state.processes, grace_s=_STOP_GRACE_S if keep_data else 0)
                end_all(processes_with(TOKEN_VARIABLE, state.token), grace_s=0)
                for process in state.processes:
                    exit_status(process.pid)
                for node in state.nodes.values():
                    node.ended = node.ended or "stopped"
            if not keep_data:
                self._remove_files(state)
        self._launcher.release()
        if self._leash is not None:
            self._leash.unfasten()
            self._leash = None

    def _remove_files(self, state: ClusterState) -> None:
        """Remove what is ours, and the directory if nothing else is in it."""
        (self.directory / state_file.STATE_FILE).unlink(missing_ok=True)
        for name in state.nodes:
            shutil.rmtree(self.data_path(name), ignore_errors=True)
        for path in [*map(self.log_path, [*state.nodes, "proxy"]), self.directory / state_file.LOCK_FILE]:
            path.unlink(missing_ok=True)
        if not any(self.directory.iterdir()):
            self.directory.rmdir()

    # Helpers.

    @contextmanager
    def _edit(self) -> Iterator[ClusterState]:
        """The state, to be changed; saved also when the block fails, because processes may have been started."""
        with state_file.locked(self.directory):
            state = state_file.load(self.directory)
            try:
                yield state
            finally:
                state_file.save(self.directory, state)

    def _node(self, state: ClusterState, name: str) -> NodeState:
        if name not in state.nodes:
            raise LabError(f"no node {name!r} in this cluster; it has {', '.join(state.nodes)}")
        return state.nodes[name]

    def _running(self, state: ClusterState, name: str) -> NodeState:
        node = self._node(state, name)
        if not node.alive:
            raise LabError(f"{name} is not running ({self.process_state(name)})")
        return node

    def _signal(self, names: Sequence[str], number: Signals, wanted: ProcessState) -> None:
        state = self.state
        for name in names:
            process = self._running(state, name).process
            assert process is not None
            process.send(number)
            if not wait_until(lambda p=process: p.state is wanted, 2.0):  # type: ignore[misc]
                raise LabError(f"{name} is {process.state.value} and not {wanted.value} after signal {number}")

    def _control(self) -> ProxyControl:
        state = self.state
        if state.proxy is None:
            raise LabError("this cluster has no proxy between its nodes, so links cannot be cut; start it with one")
        return ProxyControl(state.proxy.control_port, state.token)

    def _reap(self, node: NodeState) -> None:
        if node.process is not None and not node.alive:
            exit_status(node.process.pid)
