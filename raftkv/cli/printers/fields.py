"""`-w fields`: `"Name" : value` lines, strings quoted as Go quotes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raftkv.cli.goformat import duration, quote
from raftkv.cli.printers import (
    EndpointHash,
    EndpointHealth,
    EndpointStatus,
    LeaseRevoked,
    LeaseTime,
    SavedSnapshot,
    Style,
)
from raftkv.pb import rpc_pb2
from raftkv.pb.mvcc_pb2 import KeyValue

Field = tuple[str, int | bool | str | bytes]  # bytes are quoted, str is not.


def put(answer: rpc_pb2.PutResponse, _: Style) -> bytes:
    pairs = [answer.prev_kv] if answer.HasField("prev_kv") else []
    return _write(_header(answer.header), *(_key_value("Prev", pair) for pair in pairs))


def get(answer: rpc_pb2.RangeResponse, _: Style) -> bytes:
    pairs = (_key_value("", pair) for pair in answer.kvs)
    return _write(_header(answer.header), *pairs, [("More", answer.more), ("Count", answer.count)])


def delete(answer: rpc_pb2.DeleteRangeResponse, _: Style) -> bytes:
    pairs = (_key_value("Prev", pair) for pair in answer.prev_kvs)
    return _write(_header(answer.header), [("Deleted", answer.deleted)], *pairs)


def txn(answer: rpc_pb2.TxnResponse, style: Style) -> bytes:
    parts = [_write(_header(answer.header), [("Succeeded", answer.succeeded)])]
    for response in answer.responses:
        match response.WhichOneof("response"):
            case "response_put":
                parts.append(put(response.response_put, style))
            case "response_range":
                parts.append(get(response.response_range, style))
            case "response_delete_range":
                parts.append(delete(response.response_delete_range, style))
            case "response_txn":
                parts.append(txn(response.response_txn, style))
            case other:
                parts.append(_write([("Unknown", str(other).encode())]))
    return b"".join(parts)


def watch(answer: rpc_pb2.WatchResponse, _: Style) -> bytes:
    parts = [_write(_header(answer.header))]
    for event in answer.events:
        parts.append(_write([("Type", "DELETE" if event.type else "PUT")]))
        if event.HasField("prev_kv"):
            parts.append(_write(_key_value("Prev", event.prev_kv)))
        parts.append(_write(_key_value("", event.kv)))
    return b"".join(parts)


def member_list(answer: rpc_pb2.MemberListResponse, _: Style) -> bytes:
    parts = [_write(_header(answer.header))]
    for member in answer.members:
        fields: list[Field] = [("ID", member.ID), ("Name", member.name.encode())]
        fields += [("PeerURL", url.encode()) for url in member.peerURLs]
        fields += [("ClientURL", url.encode()) for url in member.clientURLs]
        parts.append(_write(fields, [("IsLearner", member.isLearner)]) + b"\n")
    return b"".join(parts)


def endpoint_status(answers: Sequence[EndpointStatus], _: Style) -> bytes:
    parts = []
    for status in answers:
        response = status.response
        fields: list[Field] = [
            ("Version", response.version.encode()),
            ("DBSize", response.dbSize),
            ("Leader", response.leader),
            ("IsLearner", response.isLearner),
            ("RaftIndex", response.raftIndex),
            ("RaftTerm", response.raftTerm),
            ("RaftAppliedIndex", response.raftAppliedIndex),
            ("Errors", f"[{' '.join(response.errors)}]"),
            ("Endpoint", status.endpoint.encode()),
        ]
        parts.append(_write(_header(response.header), fields) + b"\n")
    return b"".join(parts)


def endpoint_hashkv(answers: Sequence[EndpointHash], _: Style) -> bytes:
    return b"".join(
        _write(_header(one.response.header), [("Endpoint", one.endpoint.encode()), ("Hash", one.response.hash)]) + b"\n"
        for one in answers
    )


def endpoint_health(answers: Sequence[EndpointHealth], _: Style) -> bytes:
    parts = []
    for health in answers:
        fields: list[Field] = [
            ("Endpoint", health.endpoint.encode()),
            ("Health", not health.error),
            ("Took", duration(health.took_s)),
            ("Error", health.error),
        ]
        parts.append(_write(fields) + b"\n")
    return b"".join(parts)


def alarm(answer: rpc_pb2.AlarmResponse, _: Style) -> bytes:
    """Here etcdctl crashes, over the header that etcd does not send."""
    rows: list[Field] = []
    for one in answer.alarms:
        known = rpc_pb2.AlarmType.DESCRIPTOR.values_by_number.get(one.alarm)
        rows += [("MemberID", one.memberID), ("AlarmType", one.alarm if known is None else known.name)]
    return _write(_header(answer.header), rows)


def snapshot_status(saved: SavedSnapshot, _: Style) -> bytes:
    return _write([("Hash", saved.hash), ("Revision", saved.revision), ("Keys", saved.keys), ("Size", saved.size)])


def lease_grant(answer: rpc_pb2.LeaseGrantResponse | rpc_pb2.LeaseKeepAliveResponse, _: Style) -> bytes:
    return _write(_header(answer.header), [("ID", answer.ID), ("TTL", answer.TTL)])


lease_keep_alive = lease_grant


def lease_revoke(revoked: LeaseRevoked, _: Style) -> bytes:
    return _write(_header(revoked.response.header))


def lease_timetolive(time: LeaseTime, _: Style) -> bytes:
    answer = time.response
    fields: list[Field] = [("ID", answer.ID), ("TTL", answer.TTL), ("GrantedTTL", answer.grantedTTL)]
    return _write(_header(answer.header), fields, [("Key", key) for key in answer.keys])


def lease_list(answer: rpc_pb2.LeaseLeasesResponse, _: Style) -> bytes:
    return _write(_header(answer.header), [("ID", lease.ID) for lease in answer.leases])


def _header(header: rpc_pb2.ResponseHeader) -> list[Field]:
    return [
        ("ClusterID", header.cluster_id),
        ("MemberID", header.member_id),
        ("Revision", header.revision),
        ("RaftTerm", header.raft_term),
    ]


def _key_value(prefix: str, pair: KeyValue) -> list[Field]:
    return [
        (f"{prefix}Key", pair.key),
        (f"{prefix}CreateRevision", pair.create_revision),
        (f"{prefix}ModRevision", pair.mod_revision),
        (f"{prefix}Version", pair.version),
        (f"{prefix}Value", pair.value),
        (f"{prefix}Lease", pair.lease),
    ]


def _write(*groups: Iterable[Field]) -> bytes:
    return b"".join(f'"{name}" : '.encode() + _value(value) + b"\n" for group in groups for name, value in group)


def _value(value: int | bool | str | bytes) -> bytes:
    if isinstance(value, bool):
        return b"true" if value else b"false"
    return quote(value) if isinstance(value, bytes) else str(value).encode()
