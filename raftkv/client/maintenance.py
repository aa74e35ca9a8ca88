"""Looking after a cluster: alarms, defragmentation, snapshots; for both faces.

What may not live here: what needs no more than a call of its own and has been on the client from the start (status, hash, members).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc.aio

from raftkv.client.address import parse_endpoints
from raftkv.client.connection import Connection
from raftkv.client.operation import Kind, Operation
from raftkv.client.outcomes import failure_of
from raftkv.client.snapshot_file import SnapshotFile, Writable, written_whole
from raftkv.errors import DeadlineExceeded, Outcome, Unavailable
from raftkv.pb import rpc_pb2

if TYPE_CHECKING:
    from raftkv.client.asynchronous import AsyncClient
    from raftkv.client.synchronous import Client

_MAINTENANCE: Final = "/etcdserverpb.Maintenance/"
ALARMS: Final = Kind(name="alarms", path=_MAINTENANCE + "Alarm", parse=rpc_pb2.AlarmResponse.FromString, reads=True)
DISARM: Final = Kind(name="disarm", path=_MAINTENANCE + "Alarm", parse=rpc_pb2.AlarmResponse.FromString)
DEFRAGMENT: Final = Kind(
    name="defragment", path=_MAINTENANCE + "Defragment", parse=rpc_pb2.DefragmentResponse.FromString
)
DEFRAGMENT_TIMEOUT_S: Final = 600.0
"""A member copies its whole state for it."""

Target = str | PathLike[str] | Writable
"""Where a snapshot goes: a path, or an open binary file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What is wrong with a member. `kind` is "NOSPACE" or "CORRUPT"."""

    member: int
    kind: str


class Maintenance:
    """Made by `Client.maintenance`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def alarms(self, *, timeout: float | None = None) -> tuple[Alarm, ...]:
        """All alarms that are on. While one is, writes are refused: all of them (CORRUPT), or those that add data (NOSPACE)."""
        return self._client._run(alarms(), timeout)

    def disarm(self, alarm: Alarm | None = None, *, timeout: float | None = None) -> tuple[Alarm, ...]:
        """End an alarm, or all; returns those that were on. A member whose database is still beyond its quota raises it again."""
        ended = self.alarms(timeout=timeout) if alarm is None else (alarm,)
        return tuple(one for each in ended for one in self._client._run(disarm(each), timeout))

    def defragment(self, endpoint: str, *, timeout: float = DEFRAGMENT_TIMEOUT_S) -> None:
        """Have one member give free pages back to its file system. It answers nothing else meanwhile; a leader hands over first.

        Raises:
            ResourceExhausted: it has no room for the copy that this takes.
        """
        self._client._ask(defragment(), endpoint, timeout)

    def snapshot(self, target: Target, *, endpoint: str | None = None, timeout: float | None = None) -> int:
        """See `Client.snapshot`."""
        addresses, seconds = _where(self._client, endpoint, timeout)
        return self._client._runner.run(lambda _engine: save_snapshot(addresses, target, seconds))


class AsyncMaintenance:
    """Made by `AsyncClient.maintenance`; see `Maintenance`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def alarms(self, *, timeout: float | None = None) -> tuple[Alarm, ...]:
        """All alarms that are on."""
        return await self._client._run(alarms(), timeout)

    async def disarm(self, alarm: Alarm | None = None, *, timeout: float | None = None) -> tuple[Alarm, ...]:
        """End an alarm, or all; returns those that were on."""
        ended = await self.alarms(timeout=timeout) if alarm is None else (alarm,)
        return tuple([one for each in ended for one in await self._client._run(disarm(each), timeout)])

    async def defragment(self, endpoint: str, *, timeout: float = DEFRAGMENT_TIMEOUT_S) -> None:
        """Have one member give free pages back to its file system."""
        await self._client._ask(defragment(), endpoint, timeout)

    async def snapshot(self, target: Target, *, endpoint: str | None = None, timeout: float | None = None) -> int:
        """See `Client.snapshot`."""
        addresses, seconds = _where(self._client, endpoint, timeout)
        self._client._usable()
        return await save_snapshot(addresses, target, seconds)


def alarms() -> Operation[tuple[Alarm, ...]]:
    """List the alarms."""
    return Operation(ALARMS, b"", _alarms)


def disarm(alarm: Alarm) -> Operation[tuple[Alarm, ...]]:
    """End one."""
    request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=alarm.member, alarm=alarm.kind)
    return Operation(DISARM, request.SerializeToString(), _alarms)


def defragment() -> Operation[None]:
    """Have a member give free pages back."""
    return Operation(DEFRAGMENT, b"", lambda _response: None)


def _alarms(response: rpc_pb2.AlarmResponse) -> tuple[Alarm, ...]:
    return tuple(Alarm(member=one.memberID, kind=rpc_pb2.AlarmType.Name(one.alarm)) for one in response.alarms)


def _where(client: Client | AsyncClient, endpoint: str | None, timeout: float | None) -> tuple[tuple[str, ...], float]:
    addresses = client.endpoints if endpoint is None else parse_endpoints([endpoint])
    return addresses, client._timeout if timeout is None else timeout


async def save_snapshot(addresses: Sequence[str], target: Target, timeout_s: float) -> int:
    """Fetch a snapshot from the first of these that can be reached, on a connection of its own; its size.

    A path gets it whole or not at all. `timeout_s` bounds every wait for the server, not the whole.

    Raises:
        Unavailable: none can be reached.
        DeadlineExceeded: the server went silent.
        DataLoss: it did not arrive as it was sent.
        RequestError: the server refused.
        OSError: the file cannot be written.
    """
    for address in addresses:
        connection = Connection(address)
        try:
            try:
                async with asyncio.timeout(timeout_s):
                    if not await connection.connect():
                        continue
            except TimeoutError:
                continue
            with _opened(target) as file:
                return await _receive(connection, SnapshotFile(file), timeout_s)
        finally:
            await connection.close()
    raise Unavailable(f"cannot connect to {', '.join(addresses)}", outcome=Outcome.NOT_APPLIED)


@contextmanager
def _opened(target: Target) -> Iterator[Writable]:
    if isinstance(target, str | PathLike):
        with written_whole(Path(target)) as file:
            yield file
    else:
        yield target


async def _receive(connection: Connection, file: SnapshotFile, timeout_s: float) -> int:
    call = connection.responses(_MAINTENANCE + "Snapshot", rpc_pb2.SnapshotRequest().SerializeToString())
    try:
        while True:
            async with asyncio.timeout(timeout_s):
                piece = await call.read()
            if not isinstance(piece, bytes):  # gRPC's mark of the end.
                return file.finish()
            await asyncio.to_thread(file.write, rpc_pb2.SnapshotResponse.FromString(piece).blob)
    except TimeoutError:
        raise DeadlineExceeded(f"no answer from {connection.address}", outcome=Outcome.NOT_APPLIED) from None
    except grpc.aio.AioRpcError as error:
        raise failure_of(error).error_of(Outcome.NOT_APPLIED) from error
