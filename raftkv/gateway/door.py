"""Ports that speak HTTP/1, one aiohttp server each, in the node's own loop.

A door is bound before the node starts, so that a port that is taken stops the start; it accepts when the node serves, and
closes with the clients' gRPC port: calls under way get the same grace.

What may not live here: what is answered (`rpc`, `probes`, `raftkv.metrics`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from raftkv.errors import ListenError
from raftkv.gateway.probes import PLAIN, Probes
from raftkv.gateway.routes import PREFIXES, routes
from raftkv.gateway.rpc import Rpcs
from raftkv.pb.services import Method
from raftkv.server import Sources

log = logging.getLogger("raftkv.gateway")


class _Mistakes(logging.Filter):
    """aiohttp logs what a client did wrong as it logs a bug of ours, with a traceback: such a record says a line, at debug."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            log.debug("%s: %s", record.getMessage(), " ".join(str(error.message).split()))
            return False
        return True


http_log = logging.getLogger("raftkv.gateway.http")
http_log.addFilter(_Mistakes())

BACKLOG = 128
LINE_BYTES_MAX = 8190
"""Of a request's first line, and of each header."""
HEADERS_MAX = 128
READ_BYTES = 64 * 1024
"""Read ahead of a body before its client has to wait."""
KEEPALIVE_S = 300.0
"""A connection that asks for nothing is closed after this."""
CUT_OFF_S = 1.0
"""For calls that are cut off to let go of what they hold."""
LINGER_S = 2.0
"""A client that is refused while it still sends is listened to this much longer, so that it hears why."""

CORS = {
    "Access-Control-Allow-Headers": "accept, content-type, authorization",
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS, PUT, DELETE",
    "Access-Control-Allow-Origin": "*",
}
"""etcd's --cors is "*" unless it is told otherwise."""

_BELOW = tuple(f"{prefix}/" for prefix in PREFIXES)

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Render = Callable[[], tuple[bytes, str]]
"""Metrics, and their content type."""


def client_door(sources: Sources, probes: Probes, render_metrics: Render) -> Door:
    """The gateway: every route of the API, and what monitors ask."""
    rpcs = Rpcs(sources.calls, request_bytes_max=sources.request_bytes_max)
    paths = {**probes.paths(), "/metrics": _metrics(render_metrics)}
    return Door(sources.config.listen_client_http_urls, flag="--listen-client-http-urls", paths=paths, rpcs=rpcs)


def metrics_door(sources: Sources, probes: Probes, render_metrics: Render) -> Door:
    """/metrics and /health alone, for a port that others may reach than clients."""
    paths = {"/health": probes.health, "/metrics": _metrics(render_metrics)}
    return Door(sources.config.listen_metrics_urls, flag="--listen-metrics-urls", paths=paths)


class Door:
    """Satisfies `raftkv.server.Door`."""

    def __init__(
        self, urls: Sequence[str], *, flag: str, paths: Mapping[str, Answer], rpcs: Rpcs | None = None
    ) -> None:
        self._urls = urls
        self._flag = flag
        self._paths = paths
        self._rpcs = rpcs
        self._routes: Mapping[str, Method] = routes() if rpcs is not None else {}
        self._sockets: list[socket.socket] = []
        self._runner: web.ServerRunner | None = None
        self._under_way: set[asyncio.Task[object]] = set()

    def bind(self) -> None:
        """Take the ports; nobody is let in yet.

        Raises:
            ListenError: one is in use, or the address is not this machine's.
        """
        for url in self._urls:
            self._sockets.append(_bound(url, self._flag))

    async def open(self) -> None:
        """Let clients in."""
        server = web.Server(
            self._serve,
            handler_cancellation=True,  # A client that goes away takes its call with it.
            access_log=None,
            logger=http_log,
            auto_decompress=False,  # etcd does not either; and a small body could become any size.
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
            read_bufsize=READ_BYTES,
        )
        self._server = server
        self._runner = web.ServerRunner(server, shutdown_timeout=CUT_OFF_S)
        await self._runner.setup()
        for bound in self._sockets:
            await web.SockSite(self._runner, bound, backlog=BACKLOG).start()
        self._sockets.clear()

    async def close(self, grace_s: float) -> None:
        """Let nobody in any more, wait so long for calls under way, then cut them off. Twice is once."""
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        for site in list(runner.sites):
            await site.stop()
        self._server.pre_shutdown()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=grace_s)
        for task in list(self._under_way):
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=CUT_OFF_S)
        await runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None, "aiohttp serves a request in a task"
        self._under_way.add(task)
        try:
            response = await self._answer(request)
        finally:
            self._under_way.discard(task)
        if not response.prepared:
            self._add_headers(response)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "OPTIONS" and self._rpcs is not None:
            return web.Response()
        method = self._routes.get(request.path)
        if method is not None:
            assert self._rpcs is not None, "a route without RPCs"
            if request.method != "POST":
                return _text("Method Not Allowed\n", 405)
            return await self._rpcs.serve(request, method, add_headers=self._add_headers)
        answer = self._paths.get(request.path)
        if answer is None:
            is_below = self._rpcs is not None and request.path.startswith(_BELOW)
            return _text("Not Found\n" if is_below else "404 page not found\n", 404)
        if request.method != "GET" and request.path != "/metrics":
            refusal = _text("Method Not Allowed\n", 405)
            refusal.headers["Allow"] = "GET"
            return refusal
        return await answer(request)

    def _add_headers(self, response: web.StreamResponse) -> None:
        """What every response has."""
        response.headers["Server"] = "raftkv"  # Instead of the names and versions of what it is made of.
        if self._rpcs is not None:
            response.headers.update(CORS)


def _metrics(render: Render) -> Answer:
    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        text, content_type = render()
        return web.Response(body=text, headers={"Content-Type": content_type})

    return answer


def _text(text: str, status: int) -> web.Response:
    headers = {"Content-Type": PLAIN, "X-Content-Type-Options": "nosniff"}
    return web.Response(body=text.encode(), status=status, headers=headers)


def _bound(url: str, flag: str) -> socket.socket:
    parts = urlsplit(url)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ListenError(f"{flag}: cannot listen on {url}: {error.strerror or error}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)  # Only now is it known that nobody else listens there.
    except OSError as error:
        bound.close()
        raise ListenError(f"{flag}: cannot listen on {url}: {error.strerror or error}") from error
    return bound
