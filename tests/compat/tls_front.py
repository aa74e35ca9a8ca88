"""TLS before a server that speaks none: the judge from npm knows no other way to connect.

A certificate is made for the run by `openssl`. The front ends TLS and passes the bytes on, to etcd and to raftkv alike.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class Certificate:
    """For localhost and 127.0.0.1, signed by itself."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, directory: Path) -> Certificate:
        directory.mkdir(parents=True, exist_ok=True)
        made = cls(directory / "localhost.crt", directory / "localhost.key")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", str(made.key), "-out", str(made.certificate), "-days", "3650", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return made


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass  # One side has gone: the other is told by the close.
    finally:
        writer.close()


@contextmanager
def front(endpoint: str, certificate: Certificate) -> Iterator[str]:
    """``host:port`` that speaks TLS (HTTP/2) and passes everything on to the endpoint, from a thread of its own."""
    host, _, port = endpoint.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    context.set_alpn_protocols(["h2"])

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        with suppress(asyncio.CancelledError):  # The front ends.
            await asyncio.gather(_pass_on(reader, server_writer), _pass_on(server_reader, writer))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve_one, "127.0.0.1", 0, ssl=context), loop)
    server = starting.result(timeout=30)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
