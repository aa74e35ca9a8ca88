"""Answers to bytes, one module a format: simple, json, table, fields, protobuf.

    answer ─► printer(settings, kind) ─► simple.put(answer, style) ─► bytes ─► stdout

Every function of a format module is pure and is named after what it prints: `put`, `get`, `delete`, `txn`, `member_list`,
`endpoint_status`, `endpoint_health`, `endpoint_hashkv`. A format without a function of that name does not support it, as
in etcdctl (there is no table of a `get`). Keys and values are bytes and come out as they are, so nothing here is text.

Not done: formats for commands that do not exist yet (auth, user, role).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from raftkv.cli.exits import Exit, Failure
from raftkv.cli.options import Settings
from raftkv.pb import rpc_pb2

_MODULES = {"simple": "simple", "json": "as_json", "table": "table", "fields": "fields", "protobuf": "protobuf"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    r"""How to print.

    Attributes:
        hex: keys and values as `\xNN`.
        value_only: values without keys.
        count_only: the number of keys only.
    """

    hex: bool = False
    value_only: bool = False
    count_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatus:
    """One endpoint's answer to Status."""

    endpoint: str
    response: rpc_pb2.StatusResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHash:
    """One endpoint's answer to HashKV."""

    endpoint: str
    response: rpc_pb2.HashKVResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHealth:
    """Whether one endpoint completed a linearizable read.

    Attributes:
        endpoint: as given.
        took_s: until the answer or the failure.
        error: why it is unhealthy; empty if it is healthy.
    """

    endpoint: str
    took_s: float
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberAdded:
    """The answer to MemberAdd, and the name that the new member is to have."""

    name: str
    response: rpc_pb2.MemberAddResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRevoked:
    """The answer to LeaseRevoke, and which lease it was about."""

    lease: int
    response: rpc_pb2.LeaseRevokeResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTime:
    """The answer to LeaseTimeToLive, and whether keys were asked for."""

    response: rpc_pb2.LeaseTimeToLiveResponse
    with_keys: bool


MemberResponse = rpc_pb2.MemberRemoveResponse | rpc_pb2.MemberUpdateResponse | rpc_pb2.MemberPromoteResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberChanged:
    """The answer to another change of the members, and which one it was about."""

    member: int
    response: MemberResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderMoved:
    """Leadership went from one member to another."""

    leader: int
    successor: int
    response: rpc_pb2.MoveLeaderResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSnapshot:
    """What a snapshot file holds."""

    hash: int
    revision: int
    keys: int
    size: int


def render(write_out: str, kind: str, style: Style) -> Callable[[Any], bytes]:
    """The function that turns an answer of this kind into bytes.

    Raises:
        Failure: this format has no such thing.
    """
    module = import_module(f"raftkv.cli.printers.{_MODULES[write_out]}")
    function: Callable[[Any, Style], bytes] | None = getattr(module, kind, None)
    if function is None:
        raise Failure(f"{write_out} not supported as output format", Exit.NOT_SUPPORTED)
    return lambda answer: function(answer, style)


def printer(
    settings: Settings, kind: str, *, value_only: bool = False, count_only: bool = False
) -> Callable[[Any], None]:
    """The function that writes an answer of this kind to stdout; asked for before the request is sent, so that an
    impossible format changes nothing.
    """
    to_bytes = render(settings.write_out, kind, Style(hex=settings.hex, value_only=value_only, count_only=count_only))

    def show(answer: Any) -> None:
        sys.stdout.flush()
        sys.stdout.buffer.write(to_bytes(answer))
        sys.stdout.buffer.flush()

    return show
