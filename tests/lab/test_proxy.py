"""The proxy at the level of TCP: node a dials an echo server that stands for node b."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from raftkv.lab.errors import LabError
from raftkv.lab.links import Mode, ProxyControl, Rule, one_way_rules, partition_rules
from raftkv.lab.ports import LOOPBACK, hold_ports, port_of
from raftkv.lab.proxy import Proxy, Settings, running

PARTITION = partition_rules([["a"], ["b"]])
SOON_S = 5.0
NEVER_S = 0.2  # How long we look for something that must not happen.


@dataclass
class Echo:
    """An echo server that counts what reaches it, and can die and come back."""

    port: int
    received: bytearray = field(default_factory=bytearray)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    server: asyncio.Server | None = None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def start(self) -> None:
        self.server = await asyncio.start_server(self.serve, LOOPBACK, self.port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while data := await reader.read(65536):
                self.received += data
                self.arrived.set()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def die(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


@dataclass
class Wire:
    proxy: Proxy
    echo: Echo
    port: int
    control: ProxyControl

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(LOOPBACK, self.port)

    async def dial_when_open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(SOON_S):
            while True:
                try:
                    return await self.dial()
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)


@asynccontextmanager
async def wire() -> AsyncIterator[Wire]:
    holders = hold_ports(4)
    link, control, a, b = (port_of(holder) for holder in holders)
    echo = Echo(b)
    await echo.start()
    settings = Settings(token="secret", control_port=control, links=[("a", "b", link)], targets={"a": a, "b": b})
    async with running(settings) as proxy:
        yield Wire(proxy, echo, link, ProxyControl(control, "secret"))
    echo.die()
    for holder in holders:
        holder.close()


async def ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], data: bytes) -> bytes:
    reader, writer = connection
    writer.write(data)
    async with asyncio.timeout(SOON_S):
        return await reader.readexactly(len(data))


async def stays_silent(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(NEVER_S):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def test_bytes_pass_both_ways_whatever_their_number() -> None:
    async with wire() as w:
        reader, writer = await w.dial()
        data = bytes(range(256)) * 40_000  # 10 MB: more than any buffer on the way
        writer.write(data)
        async with asyncio.timeout(SOON_S):
            assert await reader.readexactly(len(data)) == data
        writer.close()


async def test_a_cut_is_silent_and_healing_delivers_what_was_held() -> None:
    async with wire() as w:
        connection = await w.dial()
        assert await ask(connection, b"before") == b"before"

        await w.proxy.set_rules(PARTITION)
        connection[1].write(b"during")
        assert await stays_silent(connection[0])
        assert w.echo.received == b"before"

        await w.proxy.set_rules({})
        async with asyncio.timeout(SOON_S):
            assert await connection[0].readexactly(6) == b"during"
        connection[1].close()


async def test_a_new_connection_hangs_while_cut_and_works_when_healed() -> None:
    async with wire() as w:
        await w.proxy.set_rules(PARTITION)
        connection = await w.dial()
        connection[1].write(b"hello")
        assert await stays_silent(connection[0])
        assert w.echo.received == b""

        await w.proxy.set_rules({})
        async with asyncio.timeout(SOON_S):
            assert await connection[0].readexactly(5) == b"hello"
        connection[1].close()


async def test_one_way_requests_arrive_and_answers_do_not() -> None:
    async with wire() as w:
        connection = await w.dial()
        assert await ask(connection, b"1") == b"1"

        await w.proxy.set_rules(one_way_rules(["b"], ["a"]))
        w.echo.arrived.clear()
        connection[1].write(b"2")
        async with asyncio.timeout(SOON_S):
            await w.echo.arrived.wait()
        assert w.echo.received == b"12"
        assert await stays_silent(connection[0])
        connection[1].close()


async def test_a_peer_that_dies_behind_a_cut_is_not_seen_dead() -> None:
    async with wire() as w:
        connection = await w.dial()
        assert await ask(connection, b"x") == b"x"
        await w.proxy.set_rules(PARTITION)

        w.echo.die()

        assert await stays_silent(connection[0])
        late = await w.dial()  # Not refused either: packets vanish.
        await w.proxy.set_rules({})
        async with asyncio.timeout(SOON_S):
            with pytest.raises(ConnectionError):
                raise ConnectionError if await connection[0].read(1) == b"" else AssertionError
        connection[1].close()
        late[1].close()


async def test_a_dead_target_is_refused_at_once_and_found_again() -> None:
    """Refusal is evidence of a dead process: by the time its connection ends, a redial must be refused."""
    async with wire() as w:
        connection = await w.dial()
        assert await ask(connection, b"x") == b"x"

        w.echo.die()
        async with asyncio.timeout(SOON_S):
            with suppress(ConnectionResetError):
                assert await connection[0].read(1) == b""
        with pytest.raises(ConnectionRefusedError):
            await w.dial()
        connection[1].close()

        await w.echo.start()
        again = await w.dial_when_open()
        assert await ask(again, b"back") == b"back"
        again[1].close()


async def test_reset_breaks_connections_at_once() -> None:
    async with wire() as w:
        connection = await w.dial()
        assert await ask(connection, b"x") == b"x"

        await w.proxy.set_rules(partition_rules([["a"], ["b"]], mode=Mode.RESET))

        async with asyncio.timeout(SOON_S):
            with pytest.raises(ConnectionResetError):
                await connection[0].readexactly(1)
        connection[1].close()


async def test_a_delay_moves_bytes_and_keeps_their_order() -> None:
    async with wire() as w:
        connection = await w.dial()
        await w.proxy.set_rules({("a", "b"): Rule(delay_s=0.15)})

        start = time.monotonic()
        connection[1].write(b"first ")
        await asyncio.sleep(0)
        await w.proxy.set_rules({})
        connection[1].write(b"second")
        async with asyncio.timeout(SOON_S):
            assert await connection[0].readexactly(12) == b"first second"

        assert time.monotonic() - start < SOON_S
        connection[1].close()


async def test_the_end_of_a_stream_passes_and_the_other_way_stays_open() -> None:
    async with wire() as w:
        reader, writer = await w.dial()
        writer.write(b"last words")
        writer.write_eof()

        async with asyncio.timeout(SOON_S):
            assert await reader.read() == b"last words"
        writer.close()


async def test_rules_are_set_and_read_over_the_control_port() -> None:
    async with wire() as w:
        await asyncio.to_thread(w.control.set_rules, PARTITION)

        assert await asyncio.to_thread(w.control.rules) == PARTITION


async def test_the_control_port_refuses_strangers_and_unknown_nodes() -> None:
    async with wire() as w:
        stranger = ProxyControl(w.control.port, "guess")
        with pytest.raises(LabError, match="another cluster"):
            await asyncio.to_thread(stranger.rules)
        with pytest.raises(LabError, match="no node 'c'"):
            await asyncio.to_thread(w.control.set_rules, {("a", "c"): Rule(mode=Mode.CUT)})
