"""A gate tells by the process who dials: two nodes dial one port, and only one of them is cut off."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from raftkv.lab.links import Mode, Rule
from raftkv.lab.ports import hold_ports, port_of
from raftkv.lab.process import TOKEN_VARIABLE
from raftkv.lab.proxy import Proxy, Settings, running
from tests.lab.test_proxy import Echo

TOKEN = "token-of-this-test"
SOON_S = 20.0
NEVER_S = 0.3

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who dials: Linux only")

# Dials the port it is given and passes on, line by line, what it is told and what it hears.
NODE = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection, connection.makefile("rwb", buffering=0) as stream:
    for line in sys.stdin.buffer:
        stream.write(line)
        sys.stdout.buffer.write(stream.readline() or b"closed\\n")
        sys.stdout.buffer.flush()
"""


class Node:
    """A process with a node's name and, as a rule, its cluster's mark."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, name: str, port: int, *, token: str = TOKEN) -> Node:
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", NODE, str(port), "--name", name),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=os.environ | {TOKEN_VARIABLE: token},
            )
        )

    async def say(self, text: bytes, *, within_s: float = SOON_S) -> bytes:
        """What comes back; b"" if the connection was broken. Raises TimeoutError."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(text + b"\n")
        async with asyncio.timeout(within_s):
            return (await self.process.stdout.readline()).rstrip(b"\n")

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


@asynccontextmanager
async def gated() -> AsyncIterator[tuple[Proxy, int]]:
    """A gate before n1, which n2 and n3 may dial."""
    holders = hold_ports(5)
    control, gate, *others = (port_of(holder) for holder in holders)
    echo = Echo(others[0])
    await echo.start()
    targets = dict(zip(("n1", "n2", "n3"), others, strict=True))
    for holder in holders[:2]:
        holder.close()
    settings = Settings(
        token=TOKEN, control_port=control, links=[], targets=targets, gates=[("n1", gate), ("n2", 0), ("n3", 0)]
    )
    async with running(settings) as proxy:
        yield proxy, gate
    echo.die()
    for holder in holders[2:]:
        holder.close()


async def test_one_of_two_nodes_that_dial_the_same_port_is_cut_off() -> None:
    async with gated() as (proxy, gate):
        two, three = await Node.start("n2", gate), await Node.start("n3", gate)
        assert (await two.say(b"hello"), await three.say(b"hello")) == (b"hello", b"hello")

        await proxy.set_rules({("n2", "n1"): Rule(mode=Mode.CUT)})

        assert await three.say(b"still here") == b"still here"
        with pytest.raises(TimeoutError):
            await two.say(b"held", within_s=NEVER_S)

        await proxy.set_rules({})

        assert await two.process.stdout.readline() == b"held\n"  # type: ignore[union-attr]
        await two.end()
        await three.end()


async def test_a_stranger_is_not_let_in() -> None:
    async with gated() as (_, gate):
        stranger = await Node.start("n2", gate, token="of another cluster")

        assert await stranger.say(b"hello") in (b"", b"closed")
        await stranger.end()
