"""The same request to a raftkv node and to a real etcd: the answers must be equal but for ids, terms and where counting began."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from raftkv.pb import rpc_pb2
from tests.server.grpc_api import Api, Failed

REVISIONS = frozenset({"revision", "mod_revision", "create_revision"})
OPAQUE = frozenset({"cluster_id", "member_id", "raft_term"})


@dataclass
class Beside:
    """A raftkv node and etcd, seen from one test: keys of its own, revisions relative to where each stood at first."""

    ours: Api
    theirs: Api
    prefix: bytes = field(default_factory=lambda: uuid.uuid4().hex[:12].encode() + b"/")

    def __post_init__(self) -> None:
        self._base = {id(api): api.get(b"-").header.revision for api in (self.ours, self.theirs)}

    def both(self, make: Message | Callable[[int], Message], **options: Any) -> Any:
        """Send a request to both, and assert that they answer alike; raftkv's answer.

        `make` may be a function of the revision at which the test began.
        """
        answers = {}
        for api in (self.theirs, self.ours):
            base = self._base[id(api)]
            answers[api] = api.kv(make(base) if callable(make) else make, **options)
        ours, theirs = (self.plain(api, answers[api]) for api in (self.ours, self.theirs))
        assert ours == theirs, f"raftkv at {self.ours.endpoint} and etcd differ"
        return answers[self.ours]

    def plain(self, api: Api, answer: Any) -> Any:
        if isinstance(answer, Failed):
            return answer
        return _relative(MessageToDict(answer, preserving_proto_field_name=True), self._base[id(api)])

    # Requests on keys of this test ----------------------------------------------------------------------------------

    def key(self, name: bytes) -> bytes:
        return self.prefix + name

    @property
    def end(self) -> bytes:
        """The end of the range of all keys of this test."""
        return self.prefix[:-1] + b"0"

    def put(self, name: bytes, value: bytes = b"", **options: Any) -> rpc_pb2.PutRequest:
        return rpc_pb2.PutRequest(key=self.key(name), value=value, **options)

    def one(self, name: bytes, **options: Any) -> rpc_pb2.RangeRequest:
        return rpc_pb2.RangeRequest(key=self.key(name), **options)

    def all(self, **options: Any) -> rpc_pb2.RangeRequest:
        return rpc_pb2.RangeRequest(key=self.prefix, range_end=self.end, **options)

    def delete(self, name: bytes, **options: Any) -> rpc_pb2.DeleteRangeRequest:
        return rpc_pb2.DeleteRangeRequest(key=self.key(name), **options)


def _relative(value: Any, base: int, name: str = "") -> Any:
    match value:
        case dict():
            return {key: _relative(inner, base, key) for key, inner in value.items()}
        case list():
            return [_relative(inner, base) for inner in value]
        case str() if name in REVISIONS:
            return int(value) - base
        case str() if name in OPAQUE:
            return "set"
        case _:
            return value


def put_op(request: rpc_pb2.PutRequest) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=request)


def range_op(request: rpc_pb2.RangeRequest) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_range=request)


def delete_op(request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_delete_range=request)


def txn_op(request: rpc_pb2.TxnRequest) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_txn=request)
