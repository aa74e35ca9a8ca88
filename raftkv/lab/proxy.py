"""One user-space TCP proxy for all links between the nodes of a local cluster. It needs no root.

Node a dials node b at a port of its own, and the proxy passes bytes on to b's peer port. Each way of each pair of nodes has a
``Rule`` that is looked up whenever it matters, so that a rule set later holds for open connections too:

    a ──dials──► [port a→b] ══ traffic a→b ══►  b's peer port
                            ◄══ traffic b→a ══

As in a network that loses packets, a cut is silent: bytes are held, not lost, because TCP would send them again; a connection
closed behind the cut is not seen closed; a new one hangs. After healing it all arrives.

A port here stands for the target's port, so it also *refuses* as the target would: while nothing listens there, nothing listens
here. "Connection refused" is evidence of a dead process, and raftkv's failover acts on it; a proxy that accepted first would hide it.

What may not live here: what a rule is and who sets it (``links.py``), processes, files.

Started as ``python -m raftkv.lab.proxy`` with one JSON line on standard input: token, control port, links, targets.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvloop

from raftkv.lab.gate import Gate
from raftkv.lab.links import OPEN, Mode, Rule, rules_from_wire, rules_to_wire
from raftkv.lab.nodes import PROXY_READY_TEXT
from raftkv.lab.ports import LOOPBACK
from raftkv.lab.pump import Side, join

_LOOK_FOR_TARGET_S = 0.02
_CONNECT_DEADLINE_S = 5.0
_PROBE_DEADLINE_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a proxy is started with.

    Attributes:
        token: must stand in every request on the control port.
        links: (node that dials, node that is dialled, port where it dials).
        targets: the port of each node behind the proxy.
        gates: (node that is dialled, port where all others dial it), for servers that know one address of each peer.
    """

    token: str
    control_port: int
    links: Sequence[tuple[str, str, int]]
    targets: Mapping[str, int]
    gates: Sequence[tuple[str, int]] = ()


class Link:
    """All connections that ``source`` dials to ``target``, and the port where it dials; None: a gate takes them."""

    def __init__(
        self,
        source: str,
        target: str,
        *,
        port: int | None,
        target_port: int,
        rules: Mapping[tuple[str, str], Rule],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.source = source
        self.target = target
        self._port = port
        self._target_port = target_port
        self._rules = rules
        self._tasks = tasks
        self._own_tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._listener_changes = asyncio.Lock()
        self._waiting: set[Side] = set()  # Accepted while cut: not dialled on yet.
        self._joined: set[Side] = set()

    def rule(self, *, towards_target: bool) -> Rule:
        """The rule for one way, as of now."""
        pair = (self.source, self.target) if towards_target else (self.target, self.source)
        return self._rules.get(pair, OPEN)

    @property
    def modes(self) -> set[Mode]:
        return {self.rule(towards_target=True).mode, self.rule(towards_target=False).mode}

    async def open(self) -> None:
        """Listen, if the target does; otherwise as soon as it does."""
        if self._port is None:
            return
        await self._mirror_target()
        self._start(self._keep_mirroring())

    def close(self) -> None:
        """Break every connection and listen no more."""
        for task in self._own_tasks:
            task.cancel()
        self._stop_listening()
        self._break_connections()

    async def rules_changed(self) -> None:
        """Let the rules that hold now act on what exists."""
        if Mode.RESET in self.modes:
            self._break_connections()
        for side in list(self._joined):
            side.rule_changed()
        await self._mirror_target()
        if self.modes == {Mode.OPEN}:
            for side in list(self._waiting):
                self._dial(side)

    def target_lost(self) -> None:
        """A connection to the target ended: refuse from now on if the target does, before its peer may dial again."""
        if not self._should_listen():
            self._stop_listening()

    def take(self, side: Side) -> None:
        """A connection was accepted: dial on, or let it wait."""
        if Mode.RESET in self.modes:
            side.abort()
            return
        self._waiting.add(side)
        if Mode.CUT not in self.modes:
            self._dial(side)

    def forget(self, side: Side) -> None:
        """A connection is gone; perhaps one of another link."""
        self._waiting.discard(side)
        self._joined.discard(side)

    def _break_connections(self) -> None:
        for side in self._waiting | self._joined:
            side.abort()

    def _dial(self, dialer: Side) -> None:
        self._waiting.discard(dialer)
        self._start(self._connect(dialer))

    async def _connect(self, dialer: Side) -> None:
        """Dial the target for a connection that was accepted, and join the two."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_DEADLINE_S):
                _, far = await loop.create_connection(lambda: Side(on_lost=self.forget), LOOPBACK, self._target_port)
        except (OSError, TimeoutError):
            self.target_lost()
            dialer.abort()
            return
        if dialer.lost or far.lost:
            far.abort()
            dialer.abort()
            return
        self._joined |= {dialer, far}
        join(dialer, far, self)

    def _should_listen(self) -> bool:
        """As the target does. A cut link listens always: packets that vanish are not refused."""
        return self._port is not None and (Mode.CUT in self.modes or _listens(self._target_port))

    async def _keep_mirroring(self) -> None:
        """While the target is away, look for it; when it goes away, the connection that ends tells."""
        while True:
            await asyncio.sleep(_LOOK_FOR_TARGET_S)
            if self._listener is None:
                await self._mirror_target()

    async def _mirror_target(self) -> None:
        async with self._listener_changes:
            if not self._should_listen():
                self._stop_listening()
            elif self._listener is None:
                self._listener = await self._listen()

    async def _listen(self) -> asyncio.Server:
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        assert self._port is not None, "a link behind a gate does not listen"
        holder.bind((LOOPBACK, self._port))
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Side(on_made=self.take, on_lost=self.forget), sock=holder)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(work)
        self._own_tasks.add(task)
        task.add_done_callback(self._own_tasks.discard)


def _listens(port: int) -> bool:
    """Whether somebody listens on the port. The kernel of a paused process still accepts.

    This blocks, but not for long: on loopback the kernel answers within microseconds.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Reset instead of an orderly end: the target forgets the probe at once.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        probe.settimeout(_PROBE_DEADLINE_S)
        try:
            probe.connect((LOOPBACK, port))
        except TimeoutError:
            return True  # A full queue of connections drops packets; it does not refuse.
        except OSError:
            return False
    return True


class Proxy:
    """All links of one cluster, and the port on which rules are set."""

    def __init__(self, tasks: asyncio.TaskGroup, settings: Settings) -> None:
        self._settings = settings
        self._rules: dict[tuple[str, str], Rule] = {}
        targets = settings.targets
        self._links = [
            Link(a, b, port=port, target_port=targets[b], rules=self._rules, tasks=tasks)
            for a, b, port in [*settings.links, *_links_behind(settings)]
        ]
        self._gates = [
            Gate(port, token=settings.token, links={link.source: link for link in self._links if link.target == target})
            for target, port in settings.gates
        ]
        self._control: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen on the control port and, as far as their targets do, on those of the links."""
        for link in self._links:
            await link.open()
        for gate in self._gates:
            await gate.open()
        self._control = await asyncio.start_server(self._answer, LOOPBACK, self._settings.control_port)

    def close(self) -> None:
        """Break every connection and listen no more."""
        if self._control is not None:
            self._control.close()
        for gate in self._gates:
            gate.close()
        for link in self._links:
            link.close()

    async def set_rules(self, rules: Mapping[tuple[str, str], Rule]) -> None:
        """Replace all rules; when this returns, no byte moves against them.

        Raises:
            ValueError: a rule names a node that is not there.
        """
        names = sorted(self._settings.targets)
        unknown = {name for pair in rules for name in pair}.difference(names)
        if unknown:
            raise ValueError(f"no node {min(unknown)!r} behind this proxy; it has {', '.join(names)}")
        self._rules.clear()
        self._rules.update(rules)
        for link in self._links:
            await link.rules_changed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request: the token, and the rules to set if any; one answer: the rules in force."""
        try:
            request = json.loads(await reader.readline())
            if request["token"] != self._settings.token:
                raise ValueError("this proxy belongs to another cluster")
            if "rules" in request:
                await self.set_rules(rules_from_wire(request["rules"]))
            answer: dict[str, Any] = {"rules": rules_to_wire(self._rules)}
        except (ValueError, KeyError, TypeError) as error:
            answer = {"error": str(error)}
        writer.write(json.dumps(answer).encode() + b"\n")
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()


def _links_behind(settings: Settings) -> list[tuple[str, str, None]]:
    gated = [target for target, _ in settings.gates]
    return [(source, target, None) for source in gated for target in gated if source != target]


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Proxy]:
    """A proxy that works while the context lasts."""
    async with asyncio.TaskGroup() as tasks:
        proxy = Proxy(tasks, settings)
        try:
            await proxy.open()
            yield proxy
        finally:
            proxy.close()


async def _main(settings: Settings) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with running(settings):
        print(PROXY_READY_TEXT, file=sys.stderr, flush=True)  # noqa: T201 - the log of this process is its standard error
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(_main(Settings(**json.loads(sys.stdin.readline()))))
