"""`-w simple`: what a person or a shell script reads.

What may not live here: rows of endpoints and members, which the table format shares (table.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raftkv.cli.goformat import duration, hex_string
from raftkv.cli.printers import (
    EndpointHash,
    EndpointHealth,
    EndpointStatus,
    LeaderMoved,
    LeaseRevoked,
    LeaseTime,
    MemberAdded,
    MemberChanged,
    SavedSnapshot,
    Style,
)
from raftkv.cli.printers.table import hash_rows, member_rows, snapshot_row, status_rows
from raftkv.pb import rpc_pb2
from raftkv.pb.mvcc_pb2 import KeyValue


def put(answer: rpc_pb2.PutResponse, style: Style) -> bytes:
    return b"OK\n" + (_key_value(answer.prev_kv, style) if answer.HasField("prev_kv") else b"")


def get(answer: rpc_pb2.RangeResponse, style: Style) -> bytes:
    if style.count_only:
        return b"%d\n" % answer.count
    return _key_values(answer.kvs, style)


def delete(answer: rpc_pb2.DeleteRangeResponse, style: Style) -> bytes:
    return b"%d\n" % answer.deleted + _key_values(answer.prev_kvs, style)


def txn(answer: rpc_pb2.TxnResponse, style: Style) -> bytes:
    """SUCCESS or FAILURE, then each answer after an empty line."""
    parts = [b"SUCCESS\n" if answer.succeeded else b"FAILURE\n"]
    for response in answer.responses:
        parts.append(b"\n")
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
                parts.append(b"unexpected response %r\n" % str(other).encode())
    return b"".join(parts)


def watch(answer: rpc_pb2.WatchResponse, style: Style) -> bytes:
    parts = []
    for event in answer.events:
        parts.append(b"DELETE\n" if event.type else b"PUT\n")
        if event.HasField("prev_kv"):
            parts.append(_key_value(event.prev_kv, style))
        parts.append(_key_value(event.kv, style))
    return b"".join(parts)


def member_list(answer: rpc_pb2.MemberListResponse, _: Style) -> bytes:
    return _lines(member_rows(answer))


def endpoint_status(answers: Sequence[EndpointStatus], _: Style) -> bytes:
    return _lines(status_rows(answers))


def endpoint_hashkv(answers: Sequence[EndpointHash], _: Style) -> bytes:
    return _lines(hash_rows(answers))


def endpoint_health(answers: Sequence[EndpointHealth], _: Style) -> bytes:
    """The healthy ones; the command tells of the others on stderr."""
    return "".join(
        f"{health.endpoint} is healthy: successfully committed proposal: took = {duration(health.took_s)}\n"
        for health in answers
        if not health.error
    ).encode()


def member_add(added: MemberAdded, _: Style) -> bytes:
    """What it is called and which environment it is to be started with."""
    response = added.response
    new = response.member
    members = ",".join(
        f"{added.name if member.ID == new.ID else member.name}={url}"
        for member in response.members
        for url in member.peerURLs
    )
    return (
        f"Member {new.ID:16x} added to cluster {response.header.cluster_id:16x}\n\n"
        f'ETCD_NAME="{added.name}"\n'
        f'ETCD_INITIAL_CLUSTER="{members}"\n'
        f'ETCD_INITIAL_ADVERTISE_PEER_URLS="{",".join(new.peerURLs)}"\n'
        f'ETCD_INITIAL_CLUSTER_STATE="existing"\n'
    ).encode()


def member_remove(changed: MemberChanged, _: Style) -> bytes:
    return _changed(changed, "removed from")


def member_update(changed: MemberChanged, _: Style) -> bytes:
    return _changed(changed, "updated in")


def member_promote(changed: MemberChanged, _: Style) -> bytes:
    return _changed(changed, "promoted in")


def _changed(changed: MemberChanged, what: str) -> bytes:
    return f"Member {changed.member:16x} {what} cluster {changed.response.header.cluster_id:16x}\n".encode()


def move_leader(moved: LeaderMoved, _: Style) -> bytes:
    return f"Leadership transferred from {moved.leader:x} to {moved.successor:x}\n".encode()


def alarm(answer: rpc_pb2.AlarmResponse, _: Style) -> bytes:
    return "".join(f"{_go_text(one)}\n" for one in answer.alarms).encode()


def _go_text(alarm: rpc_pb2.AlarmMember) -> str:
    """A message as Go prints it: fields that are zero left out, a space after each."""
    member = f"memberID:{alarm.memberID} " if alarm.memberID else ""
    return member + (f"alarm:{_alarm_name(alarm.alarm)} " if alarm.alarm else "")


def _alarm_name(kind: int) -> str:
    known = rpc_pb2.AlarmType.DESCRIPTOR.values_by_number.get(kind)
    return known.name if known is not None else str(kind)


def snapshot_status(saved: SavedSnapshot, _: Style) -> bytes:
    return _lines([snapshot_row(saved)])


def lease_grant(answer: rpc_pb2.LeaseGrantResponse, _: Style) -> bytes:
    return f"lease {answer.ID:016x} granted with TTL({answer.TTL}s)\n".encode()


def lease_revoke(revoked: LeaseRevoked, _: Style) -> bytes:
    return f"lease {revoked.lease:016x} revoked\n".encode()


def lease_keep_alive(answer: rpc_pb2.LeaseKeepAliveResponse, _: Style) -> bytes:
    return f"lease {answer.ID:016x} keepalived with TTL({answer.TTL})\n".encode()


def lease_timetolive(time: LeaseTime, _: Style) -> bytes:
    answer = time.response
    if answer.grantedTTL == 0 and answer.TTL == -1:
        return f"lease {answer.ID:016x} already expired\n".encode()
    text = f"lease {answer.ID:016x} granted with TTL({answer.grantedTTL}s), remaining({answer.TTL}s)".encode()
    return text + (b", attached keys([%s])" % b" ".join(answer.keys) if time.with_keys else b"") + b"\n"


def lease_list(answer: rpc_pb2.LeaseLeasesResponse, _: Style) -> bytes:
    lines = [f"found {len(answer.leases)} leases", *(f"{lease.ID:016x}" for lease in answer.leases)]
    return ("\n".join(lines) + "\n").encode()


def _key_values(pairs: Iterable[KeyValue], style: Style) -> bytes:
    return b"".join(_key_value(pair, style) for pair in pairs)


def _key_value(pair: KeyValue, style: Style) -> bytes:
    key, value = (hex_string(pair.key), hex_string(pair.value)) if style.hex else (pair.key, pair.value)
    return value + b"\n" if style.value_only else key + b"\n" + value + b"\n"


def _lines(rows: Iterable[Sequence[str]]) -> bytes:
    return "".join(", ".join(row) + "\n" for row in rows).encode()
