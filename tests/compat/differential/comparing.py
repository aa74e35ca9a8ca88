"""What of an answer must be equal, and what is taken out of it before that."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from raftkv.pb import rpc_pb2
from tests.mvcc.test_against_etcd import sorted_answers
from tests.server.grpc_api import Failed

OPAQUE = ("cluster_id", "member_id", "raft_term")


def comparable(request: Message, answer: Any) -> Any:
    """An answer without what two stores cannot have in common; an error as its code and text."""
    if isinstance(answer, Failed):
        return answer.code, answer.text
    kept = type(answer)()
    kept.CopyFrom(answer)
    for field in OPAQUE:
        kept.header.ClearField(field)
    match kept:
        case rpc_pb2.HashKVResponse():
            kept.ClearField("hash")
            kept.ClearField("hash_revision")  # Of etcd 3.5: one of 3.4 does not know it.
        case rpc_pb2.LeaseTimeToLiveResponse() if kept.TTL > 0:
            kept.ClearField("TTL")
    if isinstance(kept, rpc_pb2.LeaseTimeToLiveResponse):  # In the order of a hash map, there.
        keys = sorted(kept.keys)
        kept.ClearField("keys")
        return kept, keys
    if isinstance(kept, rpc_pb2.LeaseLeasesResponse):  # In the order in which they end, there.
        return kept.header, sorted(lease.ID for lease in kept.leases)
    return sorted_answers(request, kept)


def has_ended(answer: Any) -> bool:
    """Whether the server itself is gone: nothing after that means anything."""
    return isinstance(answer, Failed) and answer.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
