"""Servers that misbehave on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from raftkv.client.leasing import AsyncHome, AsyncLease
from raftkv.client.operation import Operation
from raftkv.errors import RequestError
from raftkv.pb import mvcc_pb2, rpc_pb2, store_pb2
from tests.support import eventually

Hook = Callable[[Any, Any], Awaitable[Any]]


class Flight:
    """A batch that has arrived on a stream."""

    def __init__(self, request: store_pb2.NumberedRequest, stream: Stream) -> None:
        self.request = request
        self.is_settled = False
        self._stream = stream

    async def answer(self, **result: Any) -> None:
        """With `response`, the bytes of one, or `failure`."""
        self.is_settled = True
        await self._stream.write(number=self.request.number, **result)

    async def abort(self, code: grpc.StatusCode, text: str, trailing: tuple[tuple[str, str], ...] = ()) -> None:
        """End the stream."""
        self.is_settled = True
        self._stream.end(code, text, trailing)


class Stream:
    """A call of Batches, at its server."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._ended: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()
        self._writing = asyncio.Lock()

    async def write(self, **fields: Any) -> None:
        """A NumberedResponse of these."""
        async with self._writing:
            await self._context.write(store_pb2.NumberedResponse(**fields).SerializeToString())

    def end(self, *status: Any) -> None:
        """With code, text and trailing metadata, or with OK."""
        if not self._ended.done():
            self._ended.set_result(status)

    async def serve(self, requests: AsyncIterator[bytes], fly: Callable[[Flight], Coroutine[Any, Any, None]]) -> None:
        """Have what comes fly, until the client goes away or a flight ends the stream."""

        async def read() -> None:
            async for raw in requests:
                request = store_pb2.NumberedRequest.FromString(raw)
                tasks.append(asyncio.create_task(fly(Flight(request, self))))

        await self.write()
        tasks = [asyncio.create_task(read())]
        try:
            await asyncio.wait([tasks[0], self._ended], return_when=asyncio.FIRST_COMPLETED)
            if self._ended.done() and self._ended.result():
                await self._context.abort(*self._ended.result())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


class FakeStore:
    """A store in a dict behind `/raftkv.store.Store/Batches` and the unary RPCs of etcd.

    Attributes:
        applied: the keys put, in the order in which they were applied.
        batches: the sizes of the batches that arrived.
        streams: how many streams of batches were opened.
        unary: how many unary calls arrived.
        watching: how many streams of watches there are; each watch is accepted, and hears nothing.
        gate: while it is cleared, calls wait here after their arrival and before they are applied.
        on_batch: called with request and a `Flight` before anything is applied; may wait, return an answer, refuse the batch,
            or end the stream.
        on_open: called with request and context before a session is opened; may abort, or wait.
        on_command: called with each command; an Answer that it returns stands for the command's own.
        sessions: what all stores of a cluster remember: session and sequence to the answer. None: it opens no sessions.
        commands: those of sessions, as they arrived.
        loses_answers: batches are applied, and then their stream ends as it does when a connection breaks.
    """

    def __init__(
        self, *, batching: bool = True, sessions: dict[tuple[int, int], store_pb2.Answer] | None = None
    ) -> None:
        self.batching = batching
        self.sessions = sessions
        self.opened = 0
        self.commands: list[store_pb2.Command] = []
        self.loses_answers = False
        self.data: dict[bytes, bytes] = {}
        self.applied: list[bytes] = []
        self.batches: list[int] = []
        self.unary = self.watching = self.streams = 0
        self.in_flight_max = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.on_batch: Hook | None = None
        self.on_open: Hook | None = None
        self.on_command: Callable[[store_pb2.Command], store_pb2.Answer | None] | None = None
        self.port = 0
        self._in_flight = 0
        self._open_streams: set[Stream] = set()
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> FakeStore:
        """Listen."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        if self.batching:
            batches = grpc.stream_stream_rpc_method_handler(self._batches)
            handlers = [grpc.method_handlers_generic_handler("raftkv.store.Store", {"Batches": batches})]
            if self.sessions is not None:
                opening = (self._open_session, store_pb2.OpenSessionRequest)
                handlers.append(_service("raftkv.store.Store", OpenSession=opening))
            server.add_generic_rpc_handlers(handlers)
        server.add_generic_rpc_handlers(
            (
                _service(
                    "etcdserverpb.KV",
                    Put=(self._put, rpc_pb2.PutRequest),
                    Range=(self._range, rpc_pb2.RangeRequest),
                ),
                _service(
                    "etcdserverpb.Maintenance",
                    Status=(self._status, rpc_pb2.StatusRequest),
                    MoveLeader=(self._move_leader, rpc_pb2.MoveLeaderRequest),
                ),
                grpc.method_handlers_generic_handler(
                    "etcdserverpb.Watch", {"Watch": grpc.stream_stream_rpc_method_handler(self._watch)}
                ),
            )
        )
        self.port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        self._server = server
        return self

    async def stop(self) -> None:
        """Stop at once; calls under way are broken off. Idempotent."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def _batches(self, requests: AsyncIterator[bytes], context: Any) -> None:
        self.streams += 1
        stream = Stream(context)
        self._open_streams.add(stream)
        try:
            await stream.serve(requests, self._fly)
        finally:
            self._open_streams.discard(stream)

    async def end_streams(self) -> None:
        """End those of batches that are open, without a word, and return when all have ended."""
        for stream in self._open_streams:
            stream.end()
        await eventually(lambda: not self._open_streams)

    async def _fly(self, flight: Flight) -> None:
        request = store_pb2.BatchRequest.FromString(flight.request.batch)
        self.batches.append(len(request.commands))
        self._in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self._in_flight)
        try:
            await self.gate.wait()
            response = None if self.on_batch is None else await self.on_batch(request, flight)
            if flight.is_settled:
                return
            if response is None:
                response = store_pb2.BatchResponse(answers=[self._answer(command) for command in request.commands])
            if self.loses_answers:
                await flight.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            else:
                await flight.answer(response=response.SerializeToString())
        finally:
            self._in_flight -= 1

    async def _open_session(self, request: Any, context: Any) -> store_pb2.OpenSessionResponse:
        self.opened += 1
        if self.on_open is not None:
            await self.on_open(request, context)
        return store_pb2.OpenSessionResponse(header=self._header(), session=self.opened + 300, ttl_ms=600_000)

    def _answer(self, command: store_pb2.Command) -> store_pb2.Answer:
        if self.sessions is None or not command.session:
            return self._apply(command)
        self.commands.append(command)
        number = (command.session, command.sequence)
        if number not in self.sessions:
            answer = self._apply(command)
            if answer.failure.outcome == store_pb2.Failure.NOT_APPLIED and answer.HasField("failure"):
                return answer
            self.sessions[number] = answer
        return self.sessions[number]

    def _apply(self, command: store_pb2.Command) -> store_pb2.Answer:
        if self.on_command is not None and (answer := self.on_command(command)) is not None:
            return answer
        match command.WhichOneof("operation"):
            case "put":
                return store_pb2.Answer(put=self._apply_put(command.put))
            case "range":
                return store_pb2.Answer(range=self._read(command.range))
            case "txn":
                return store_pb2.Answer(txn=rpc_pb2.TxnResponse(succeeded=True, header=self._header()))
            case _:
                return store_pb2.Answer(delete_range=rpc_pb2.DeleteRangeResponse(header=self._header()))

    async def _put(self, request: rpc_pb2.PutRequest, context: Any) -> rpc_pb2.PutResponse:
        self.unary += 1
        await self.gate.wait()
        return self._apply_put(request)

    async def _range(self, request: rpc_pb2.RangeRequest, context: Any) -> rpc_pb2.RangeResponse:
        self.unary += 1
        await self.gate.wait()
        return self._read(request)

    async def _status(self, request: rpc_pb2.StatusRequest, context: Any) -> rpc_pb2.StatusResponse:
        self.unary += 1
        await self.gate.wait()
        return rpc_pb2.StatusResponse(header=self._header(), version="fake")

    async def _move_leader(self, request: rpc_pb2.MoveLeaderRequest, context: Any) -> rpc_pb2.MoveLeaderResponse:
        self.unary += 1
        await self.gate.wait()
        return rpc_pb2.MoveLeaderResponse(header=self._header())

    async def _watch(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self.watching += 1
        try:
            async for _ in requests:
                await self.gate.wait()
                yield rpc_pb2.WatchResponse(header=self._header(), created=True).SerializeToString()
        finally:
            self.watching -= 1

    def _header(self) -> rpc_pb2.ResponseHeader:
        return rpc_pb2.ResponseHeader(revision=len(self.applied) + 1)

    def _apply_put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        self.applied.append(request.key)
        self.data[request.key] = request.value
        return rpc_pb2.PutResponse(header=self._header())

    def _read(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        response = rpc_pb2.RangeResponse(header=self._header())
        if request.key in self.data:
            response.count = 1
            response.kvs.add(key=request.key, value=self.data[request.key], version=1)
        return response


class FakeQueue:
    """What locks stand in, in place of an engine: keys with their create revisions.

    Attributes:
        keys: create revision by key.
        arrived, answered: how many calls were begun, and ended.
        gate: while it is cleared, calls wait after their arrival and before they are carried out.
        refusals: raised instead of an answer, by the kind of call.
    """

    is_closed = False

    def __init__(self) -> None:
        self.keys: dict[bytes, int] = {}
        self.arrived = self.answered = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.refusals: dict[str, RequestError] = {}
        self.home = AsyncHome(lambda: self)  # type: ignore[arg-type, return-value]
        self._revision = 1
        self._tasks: list[asyncio.Task[None]] = []

    async def lease(self) -> AsyncLease:
        """One that locks may hang on."""
        lease = AsyncLease(self.home, 1000, timeout=1)
        await lease.start()
        return lease

    async def perform(self, operation: Operation[Any], timeout: float) -> Any:
        """As an engine does it."""
        self.arrived += 1
        await self.gate.wait()
        self.answered += 1
        if operation.kind.name in self.refusals:
            raise self.refusals[operation.kind.name]
        match operation.kind.name:
            case "txn":
                return operation.convert(self._txn(rpc_pb2.TxnRequest.FromString(operation.request)))
            case "lease_grant":
                return operation.convert(rpc_pb2.LeaseGrantResponse(TTL=1000))
            case _:
                return operation.convert(rpc_pb2.RangeResponse(header=self._header()))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """As an engine does it."""
        self._tasks.append(asyncio.ensure_future(work))
        return self._tasks[-1]

    async def stop(self) -> None:
        """End what was spawned."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _header(self) -> rpc_pb2.ResponseHeader:
        return rpc_pb2.ResponseHeader(revision=self._revision)

    def _txn(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        (compare,), key = request.compare, request.compare[0].key
        if self.keys.get(key, 0) != compare.create_revision:
            found = rpc_pb2.RangeResponse(kvs=[mvcc_pb2.KeyValue(key=key, create_revision=self.keys.get(key, 0))])
            return rpc_pb2.TxnResponse(header=self._header(), responses=[rpc_pb2.ResponseOp(response_range=found)])
        self._revision += 1
        if request.success[0].HasField("request_put"):
            self.keys.setdefault(key, self._revision)
        else:
            self.keys.pop(key)
        return rpc_pb2.TxnResponse(header=self._header(), succeeded=True)


def failure(code: int, message: str, *, not_applied: bool) -> store_pb2.Answer:
    """The answer to a command that failed."""
    outcome = store_pb2.Failure.NOT_APPLIED if not_applied else store_pb2.Failure.UNKNOWN
    return store_pb2.Answer(failure=store_pb2.Failure(code=code, message=message, outcome=outcome))


@asynccontextmanager
async def breaking_server(breaks: int = 1_000_000) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Speaks HTTP/2, and takes a stream of batches, until a request has arrived, then cuts the connection. Yields its address and what it received."""
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settings, settings_ack = b"\0\0\0\4\0\0\0\0\0", b"\0\0\0\4\1\0\0\0\0"
        writer.write(settings + settings_ack)
        # `:status: 200` and `content-type: application/grpc`, then a message of no bytes, on the first stream.
        headers = b"\0\0\x14\1\4\0\0\0\1" + b"\x88\x0f\x10\x10application/grpc"
        empty_message = b"\0\0\5\0\0\0\0\0\1" + b"\0\0\0\0\0"
        seen, is_taken = b"", False
        while chunk := await reader.read(65536):
            seen += chunk
            if b"/raftkv.store.Store/Batches" in seen and not is_taken:
                is_taken = True
                writer.write(headers + empty_message)
            if b"cut-me" in seen:
                received.append(seen)
                break
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", received
    finally:
        server.close()
        await server.wait_closed()


def _service(name: str, **methods: tuple[Hook, Any]) -> grpc.GenericRpcHandler:
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(
            handler,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for method, (handler, request) in methods.items()
    }
    return grpc.method_handlers_generic_handler(name, handlers)
