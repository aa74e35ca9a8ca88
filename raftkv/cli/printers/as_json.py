"""`-w json`: the answers as Go's encoding/json prints etcd's structs: numbers plain, bytes in base64, defaults left out."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from raftkv.cli.goformat import duration
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
from raftkv.pb import rpc_pb2


def _message(answer: Message, _: Style) -> bytes:
    return json_line(message_as_json(answer))


put = get = delete = txn = member_list = alarm = _message


def watch(answer: rpc_pb2.WatchResponse, _: Style) -> bytes:
    """As etcd's Go client has it: its own structure around the events."""
    shown = {
        "Header": message_as_json(answer.header),
        "Events": [message_as_json(event) for event in answer.events],
        "CompactRevision": answer.compact_revision,
        "Canceled": answer.canceled,
        "Created": answer.created,
    }
    return json_line(shown)


def endpoint_status(answers: Sequence[EndpointStatus], _: Style) -> bytes:
    return json_line([{"Endpoint": one.endpoint, "Status": message_as_json(one.response)} for one in answers])


def endpoint_hashkv(answers: Sequence[EndpointHash], _: Style) -> bytes:
    return json_line([{"Endpoint": one.endpoint, "HashKV": message_as_json(one.response)} for one in answers])


def endpoint_health(answers: Sequence[EndpointHealth], _: Style) -> bytes:
    rows = [{"endpoint": one.endpoint, "health": not one.error, "took": duration(one.took_s)} for one in answers]
    for row, one in zip(rows, answers, strict=True):
        if one.error:
            row["error"] = one.error
    return json_line(rows)


def member_changed(changed: MemberAdded | MemberChanged, style: Style) -> bytes:
    return _message(changed.response, style)


member_add = member_remove = member_update = member_promote = member_changed


def move_leader(moved: LeaderMoved, style: Style) -> bytes:
    return _message(moved.response, style)


def snapshot_status(saved: SavedSnapshot, _: Style) -> bytes:
    shown = {"hash": saved.hash, "revision": saved.revision, "totalKey": saved.keys, "totalSize": saved.size}
    return json_line(shown)


def lease_grant(answer: rpc_pb2.LeaseGrantResponse, _: Style) -> bytes:
    return json_line({**message_as_json(answer.header), "ID": answer.ID, "TTL": answer.TTL, "Error": answer.error})


def lease_revoke(revoked: LeaseRevoked, style: Style) -> bytes:
    return _message(revoked.response, style)


def lease_keep_alive(answer: rpc_pb2.LeaseKeepAliveResponse, _: Style) -> bytes:
    return json_line({**message_as_json(answer.header), "ID": answer.ID, "TTL": answer.TTL})


def lease_timetolive(time: LeaseTime, _: Style) -> bytes:
    answer = time.response
    shown = {
        "id": answer.ID,
        "ttl": answer.TTL,
        "granted-ttl": answer.grantedTTL,
        "keys": [base64.b64encode(key).decode() for key in answer.keys] or None,
    }
    return json_line({**message_as_json(answer.header), **shown})


def lease_list(answer: rpc_pb2.LeaseLeasesResponse, _: Style) -> bytes:
    return json_line({**message_as_json(answer.header), "leases": [{"id": lease.ID} for lease in answer.leases]})


def message_as_json(message: Message) -> dict[str, Any]:
    """A message as Go's encoding/json sees etcd's structs: declared order, defaults left out, bytes in base64."""
    fields: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None:
            if message.HasField(field.name):  # A oneof is an interface without a tag: {"Response":{"ResponsePut":{…}}}.
                name = field.containing_oneof.name.capitalize()
                fields[name] = {_camel(field.name): message_as_json(getattr(message, field.name))}
        elif field.is_repeated:
            values = getattr(message, field.name)
            if values:
                fields[field.name] = [_json_value(field, value) for value in values]
        elif field.message_type is not None:
            if message.HasField(field.name):
                fields[field.name] = message_as_json(getattr(message, field.name))
        elif value := getattr(message, field.name):
            fields[field.name] = _json_value(field, value)
    return fields


def _json_value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return message_as_json(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


_HTML = {"&": "\\u0026", "<": "\\u003c", ">": "\\u003e", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def json_line(value: Any) -> bytes:
    """One line of JSON without spaces, escaped as Go does (`<`, `>`, `&` too)."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return (re.sub("[&<>\u2028\u2029]", lambda match: _HTML[match[0]], text) + "\n").encode("utf-8", "replace")
