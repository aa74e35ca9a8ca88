"""Two sides that pass bytes to each other, without sockets."""

from __future__ import annotations

import asyncio

from raftkv.lab.links import OPEN, Rule
from raftkv.lab.pump import Side, join


class Wire(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class OpenLink:
    def rule(self, *, towards_target: bool) -> Rule:
        return OPEN

    def target_lost(self) -> None:
        pass


async def test_what_a_side_receives_before_it_is_joined_is_passed_on_in_order() -> None:
    """uvloop hands over what it has read already, although reading was paused when the connection was made."""
    near, far, near_wire = Side(), Side(), Wire()
    near.connection_made(near_wire)
    far.connection_made(Wire())

    far.data_received(b"first ")
    far.data_received(b"second")
    far.eof_received()
    join(near, far, OpenLink())

    assert near_wire.written == b"first second"
    assert near_wire.ended
