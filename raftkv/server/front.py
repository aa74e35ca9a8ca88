"""The gRPC server that clients reach: grpcio, or pygrpc-native where an operator chooses it. This is the only file that knows.

pygrpc-native does HTTP/2 and gRPC in Rust, outside the GIL, behind grpcio's own interface: a unary call costs the node a tenth
of the processor time. It serves unary and server-streaming calls itself; what streams both ways (Watch, LeaseKeepAlive, Batches) and
what is unknown it passes on to a grpcio server behind it, through a socket in the file system. So `context.peer()` of such a
stream says nothing about who calls: see `connection_of`. When it stops, it hangs up as soon as the last handler is done: the
last answers, of unary calls too, may be lost on the way, and a client knows no more than of a connection that broke.

``NATIVE_GRPC=yes`` in a node's environment chooses it. It is not the default, because its HTTP/2 (the `h2` crate) resets every
call whose `:authority` is no host and port: etcd's Go clients up to 3.4, etcdctl among them, send the endpoint there as they were
given it, with `http://` in front.

What may not live here: what is served.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import grpc

from raftkv.errors import ConfigError, ListenError
from raftkv.transport.listening import add_port, obstacle

CHOICE = "NATIVE_GRPC"
_NATIVE = "pygrpc_native"
_NO_DEADLINE_S = 1e9
"""pygrpc-native's word for a call without a deadline is some number beyond this; grpcio's is None."""

Handlers = Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]


class Front:
    """One server for each port. `serve` and `listen` first, then `start`.

    Args:
        options: grpcio's, as pairs of name and value.
    """

    def __init__(self, options: Sequence[tuple[str, int]]) -> None:
        self._is_native = _is_native_chosen()
        self._new_server = _server_factory(options, is_native=self._is_native)
        self._register: list[Callable[[grpc.aio.Server], None]] = []
        self._servers: list[grpc.aio.Server] = []

    def serve(self, handlers: Handlers, rest: grpc.GenericRpcHandler) -> None:
        """Serve these methods, by path; `rest` finds the handler of any other."""
        by_service: dict[str, dict[str, Any]] = {}
        for path, handler in handlers.items():
            service, _, name = path[1:].partition("/")
            by_service.setdefault(service, {})[name] = handler

        def register(server: grpc.aio.Server) -> None:
            server.add_generic_rpc_handlers((rest,))
            for service, methods in by_service.items():
                server.add_registered_method_handlers(service, methods)

        self._register.append(register)

    def serve_with(self, register: Callable[[grpc.aio.Server], None]) -> None:
        """Serve what generated code registers by itself."""
        self._register.append(register)

    def listen(self, urls: Sequence[str], *, flag: str) -> None:
        """Listen at checked URLs; nobody is served before `start`.

        Raises:
            ListenError: a port is in use, or an address is not this machine's.
        """
        for url in urls:
            # pygrpc-native would have words of its own to say on standard error.
            if self._is_native and (reason := obstacle(url)):
                raise ListenError(f"{flag}: cannot listen on {url}: {reason}")
            server = self._new_server()
            for register in self._register:
                register(server)
            add_port(server, url, flag=flag)
            self._servers.append(server)

    async def start(self) -> None:
        for server in self._servers:
            await server.start()

    async def stop(self, grace_s: float | None) -> None:
        """Take no new calls, and return when those under way have ended, after `grace_s` at the latest."""
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers))


def remaining_s(context: Any) -> float | None:
    """Time until a call's deadline; None if it has none."""
    remaining: float | None = context.time_remaining()
    return None if remaining is None or remaining > _NO_DEADLINE_S else remaining


def connection_of(context: Any) -> str:
    """What tells a stream's connection from others; where a stream came through the native server, what tells the stream."""
    peer: str = context.peer()
    return f"stream {id(context):x}" if peer.startswith("unix:") else peer


def _is_native_chosen() -> bool:
    """Raises: ConfigError: the choice is none, or the package is missing."""
    choice = os.environ.get(CHOICE, "")
    if choice not in ("", "no", "yes"):
        raise ConfigError(f"{CHOICE}: {choice!r}; allowed are yes, no, and nothing at all")
    if choice == "yes" and find_spec(_NATIVE) is None:
        raise ConfigError(f"{CHOICE}: yes needs the package pygrpc-native: pip install 'raftkv[fast]'")
    return choice == "yes"


def _server_factory(options: Sequence[tuple[str, int]], *, is_native: bool) -> Callable[[], grpc.aio.Server]:
    if not is_native:
        return lambda: grpc.aio.server(options=options)
    native: Any = import_module(f"{_NATIVE}.aio")
    return lambda: native.Server(options=options, io_threads=1)
