"""evidence: a refused connection tells that a process is dead, unless its peer port shows that it lives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from raftkv.transport.evidence import EVIDENCE_WAITS_S, has_died, is_refused
from tests.support import free_port


@contextmanager
def silent() -> Iterator[str]:
    """A port that keeps its connections and says nothing: the kernel takes them in for a process that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield "{}:{}".format(*listening.getsockname())


@asynccontextmanager
async def speaking(says: bytes) -> AsyncIterator[str]:
    """A port that says this and keeps its connections, or has nothing to say and closes them at once."""
    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if says:
            writer.write(says)
            await reader.read()
        writer.close()
        await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    async with server:
        yield "{}:{}".format(*server.sockets[0].getsockname())
        await asyncio.gather(*served, return_exceptions=True)


def nobody() -> str:
    return f"127.0.0.1:{free_port()}"


async def test_a_process_that_refuses_its_peers_is_dead() -> None:
    with silent() as client:
        assert await is_refused(nobody(), [client])


async def test_a_process_that_greets_a_peer_is_not_dead_though_a_client_is_refused() -> None:
    """A firewall refuses clients, or a client URL is good on the peer's own host only."""
    async with speaking(b"greeting") as peer:
        assert not await is_refused(peer, [nobody()])


async def test_a_process_that_hangs_is_not_dead_though_a_client_is_refused() -> None:
    with silent() as peer:
        assert not await is_refused(peer, [nobody()])


async def test_a_peer_port_that_closes_what_it_takes_in_is_no_sign_of_life() -> None:
    """A dying process, or something that stands before the port and accepts for whoever is behind."""
    async with speaking(b"") as peer:
        assert await is_refused(peer, [nobody()])


async def test_a_process_that_refuses_nobody_is_not_dead() -> None:
    with silent() as peer, silent() as client:
        assert not await is_refused(peer, [client])


@pytest.mark.parametrize("host", ["..", "a..b", "n" * 64, "a\0b", "a\u2028b"])
async def test_a_host_that_can_have_no_address_refuses_nothing(host: str) -> None:
    """A member may say of itself that it serves clients there."""
    with silent() as peer:
        assert not await is_refused(peer, [f"{host}:80"])
    assert not await is_refused(f"{host}:80", [])


async def test_an_address_without_a_port_refuses_nothing() -> None:
    assert not await is_refused("nonsense", ["nonsense:port"])


async def test_a_port_that_closes_a_moment_later_than_the_stream_is_found_closed() -> None:
    """A dying process closes its sockets one after another."""
    looks = 0
    dead = nobody()
    with silent() as living:

        def peer() -> tuple[str, list[str]]:
            nonlocal looks
            looks += 1
            return (dead if looks == len(EVIDENCE_WAITS_S) else living), []

        assert await has_died(peer, is_back=lambda: False)


async def test_a_peer_that_is_back_while_it_is_looked_for_is_not_dead() -> None:
    answers = iter([False, True])

    assert not await has_died(lambda: (nobody(), []), is_back=lambda: next(answers))
