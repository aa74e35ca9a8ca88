"""raftkv: a replicated key-value store that survives the death of its leader, and proves it.

    import raftkv

    with raftkv.connect("10.0.0.1:2379,10.0.0.2:2379") as kv:
        kv.put("config/mode", "blue")
        print(kv.get("config/mode").text)

`raftkv.aio.connect` gives the same for asyncio. The client and its errors are all there is to import from here; they are
loaded when first used, so that nothing else pays for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raftkv import aio, errors
    from raftkv.client import (
        Alarm,
        AsyncClient,
        Client,
        CompactResult,
        DeleteResult,
        Election,
        HashResult,
        KeyValue,
        Lease,
        Limits,
        Lock,
        Member,
        Observation,
        PutResult,
        RangeResult,
        Status,
        TxnResult,
        Watch,
        WatchBatch,
        WatchEvent,
        connect,
    )
    from raftkv.errors import (
        Cancelled,
        Compacted,
        ConfigError,
        DataLoss,
        DeadlineExceeded,
        FailedPrecondition,
        FutureRevision,
        InvalidArgument,
        LeaseLost,
        NotFound,
        Outcome,
        OutOfRange,
        PermissionDenied,
        RaftkvError,
        RequestError,
        ResourceExhausted,
        SessionExpired,
        Unauthenticated,
        Unavailable,
        Unimplemented,
    )

__all__ = [
    "Alarm",
    "AsyncClient",
    "Cancelled",
    "Client",
    "CompactResult",
    "Compacted",
    "ConfigError",
    "DataLoss",
    "DeadlineExceeded",
    "DeleteResult",
    "Election",
    "FailedPrecondition",
    "FutureRevision",
    "HashResult",
    "InvalidArgument",
    "KeyValue",
    "Lease",
    "LeaseLost",
    "Limits",
    "Lock",
    "Member",
    "NotFound",
    "Observation",
    "OutOfRange",
    "Outcome",
    "PermissionDenied",
    "PutResult",
    "RaftkvError",
    "RangeResult",
    "RequestError",
    "ResourceExhausted",
    "SessionExpired",
    "Status",
    "TxnResult",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Watch",
    "WatchBatch",
    "WatchEvent",
    "aio",
    "connect",
    "errors",
]

_MODULES = ("aio", "errors")
_HOMES = ("raftkv.errors", "raftkv.client")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"raftkv.{name}")
    if name in __all__:
        for home in _HOMES:
            module = import_module(home)
            if hasattr(module, name):
                value = globals()[name] = getattr(module, name)
                return value
    raise AttributeError(f"module 'raftkv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
