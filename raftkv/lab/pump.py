"""Two sockets joined, with a rule for each way: the part of the proxy that touches every byte.

What may not live here: who may connect to whom, and when (``proxy.py``).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from raftkv.lab.links import Mode, Rule

# Bytes on their way to a slow or delayed receiver; beyond it the sender is not read, as with a full TCP window.
HELD_BYTES_MAX = 4 * 1024 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s


class Rulebook(Protocol):
    """What a joined pair asks of its link."""

    def rule(self, *, towards_target: bool) -> Rule:
        """The rule for one way, as of now."""

    def target_lost(self) -> None:
        """The target's end of a connection is gone; called before the dialler hears of it."""


class Side(asyncio.Protocol):
    """One of the two sockets. What it receives goes to the other one, as the rule of that way has it.

    Invariant: what was received and not yet passed on stands in ``_held``, in order, with the time at which it is due.
    """

    def __init__(
        self, *, on_made: Callable[[Side], None] | None = None, on_lost: Callable[[Side], None] | None = None
    ) -> None:
        self._on_made = on_made
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._other: Side | None = None
        self._link: Rulebook | None = None
        self._towards_target = False
        self._held: deque[tuple[float, bytes | None]] = deque()  # None: the end of the stream.
        self._held_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._reading = True
        self._other_is_full = False
        self._ended = False
        self.lost = False

    @property
    def peer_port(self) -> int:
        """The port at the other end of this socket."""
        assert self._transport is not None, "asked before the connection was made"
        port: int = self._transport.get_extra_info("peername")[1]
        return port

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._read(wanted=False)  # Nothing is read before there is somebody to pass it on to.
        if self._on_made is not None:
            self._on_made(self)

    def data_received(self, data: bytes) -> None:
        self._hold(data)

    def eof_received(self) -> bool:
        self._hold(None)
        return True  # The other way stays open.

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.receiver_is_full(full=True)

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other.receiver_is_full(full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        if self._on_lost is not None:
            self._on_lost(self)
        # An orderly end came as the end of the stream, and is on its way already. A reset overtakes what is held.
        if exc is not None and self._other is not None and not self._other.lost:
            self._tell_link()
            self._other.abort()

    # What the link calls.

    def join(self, other: Side, link: Rulebook, *, towards_target: bool) -> None:
        """From now on pass on to ``other``."""
        self._other = other
        self._link = link
        self._towards_target = towards_target
        self._pass_on()

    def rule_changed(self) -> None:
        """Look at the rule again: it may hold back, or let go."""
        self._pass_on()

    def receiver_is_full(self, *, full: bool) -> None:
        self._other_is_full = full
        self._pass_on()

    def write(self, data: bytes) -> None:
        """Send to this side's peer."""
        if self._transport is not None and not self.lost:
            self._transport.write(data)

    def finish(self, *, close: bool) -> None:
        """Nothing more will be sent to this side's peer; with ``close`` nothing more is expected from it either."""
        if self._transport is None or self.lost:
            return
        if close:
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()

    def abort(self) -> None:
        """Break the connection: the peer sees a reset."""
        if self._transport is None or self.lost:
            return
        with suppress(OSError):  # The peer may have closed it meanwhile.
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    # One way of the pair.

    def _hold(self, data: bytes | None) -> None:
        # uvloop hands over what it had read already when it was told to pause: that waits until the side is joined.
        delay_s = 0.0 if self._link is None else self._link.rule(towards_target=self._towards_target).delay_s
        due = asyncio.get_running_loop().time() + delay_s
        if self._held:
            due = max(due, self._held[-1][0])  # A delay that has become shorter lets nothing overtake.
        self._held.append((due, data))
        self._held_bytes += len(data or b"")
        self._pass_on()

    def _pass_on(self) -> None:
        """Move what is due and allowed, then decide whether to read on and when to look again."""
        if self._link is None or self._other is None or self.lost:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        cut = self._link.rule(towards_target=self._towards_target).mode is Mode.CUT
        loop = asyncio.get_running_loop()
        while self._held and not cut and not self._other_is_full and self._held[0][0] <= loop.time():
            self._deliver(self._held.popleft()[1])
        if self._held and not cut and not self._other_is_full:
            self._timer = loop.call_at(self._held[0][0], self._pass_on)
        self._read(wanted=not cut and not self._other_is_full and self._held_bytes < HELD_BYTES_MAX)

    def _deliver(self, data: bytes | None) -> None:
        assert self._other is not None
        if data is None:
            self._ended = True
            self._tell_link()
            self._other.finish(close=self._other._ended)
            if self._other._ended:
                self.finish(close=True)
        else:
            self._held_bytes -= len(data)
            self._other.write(data)

    def _tell_link(self) -> None:
        """The end of the target's stream may mean that the target is dead; its link looks before the dialler learns it."""
        if self._link is not None and not self._towards_target:
            self._link.target_lost()

    def _read(self, *, wanted: bool) -> None:
        if self._transport is None or self.lost or wanted == self._reading:
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


def join(dialer: Side, target: Side, link: Rulebook) -> None:
    """Let two sockets pass their bytes to each other under the rules of a link."""
    dialer.join(target, link, towards_target=True)
    target.join(dialer, link, towards_target=False)
