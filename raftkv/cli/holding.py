"""What `lock` and `elect` share: a client that keeps a lease alive, signals that end the wait, the key that is held.

What may not live here: what is held.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from raftkv.cli.exits import Exit, Failure
from raftkv.cli.options import Settings

if TYPE_CHECKING:
    from raftkv.client import Client
    from raftkv.pb import rpc_pb2

SIGNALS = (signal.SIGINT, signal.SIGTERM)
DEFAULT_TTL_S = 60
"""What etcd's client makes of a TTL of 0, too."""

AGAIN_S = 1.0
"""After a signal, others are ignored for so long. Not for ever: Python drops what is raised while it collects an object."""


class Interrupted(BaseException):
    """A signal asks for the end. Not an Exception: nothing between the wait and the command may take it for a failure."""


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Interrupted`: what is given back then, is given back undisturbed, unless it takes long.

    Raises:
        Interrupted: one came.
    """
    raised = -math.inf

    def interrupt(_number: int, _frame: Any) -> None:
        nonlocal raised
        if time.monotonic() - raised >= AGAIN_S:
            raised = time.monotonic()
            raise Interrupted

    with _handled_by(interrupt):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """SIGINT and SIGTERM are for the command that runs, not for us; what we start does not inherit that."""
    with _handled_by(lambda _number, _frame: None):
        yield


@contextmanager
def _handled_by(handler: Any) -> Iterator[None]:
    before = [signal.signal(number, handler) for number in SIGNALS]
    try:
        yield
    finally:
        for number, earlier in zip(SIGNALS, before, strict=True):
            signal.signal(number, earlier)


@contextmanager
def client_of(settings: Settings) -> Iterator[Client]:
    """The library's client, which renews leases.

    Raises:
        Failure: settings that it does not know yet.
    """
    if settings.cacert or settings.cert or settings.user or not settings.insecure_transport:
        raise Failure("TLS and logins are not supported for this command yet", Exit.FAILED)

    import raftkv

    with raftkv.connect(settings.endpoints, timeout=settings.command_timeout) as client:
        yield client


def key_as_it_is(settings: Settings, key: bytes) -> rpc_pb2.RangeResponse:
    """The answer to a get of a key."""
    from raftkv.cli.rpc import Connection
    from raftkv.pb import rpc_pb2

    with Connection(settings) as connection:
        return connection.range(rpc_pb2.RangeRequest(key=key))
