"""`-w json`: the answers as Go's encoding/json prints etcd's structs: numbers plain, bytes in base64, defaults left out."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from raftkv.cli.goformat import duration, json_line, message_as_json
from raftkv.cli.printers import EndpointHash, EndpointHealth, EndpointStatus, Style


def _message(answer: Message, _: Style) -> bytes:
    return json_line(message_as_json(answer))


put = get = delete = txn = member_list = _message


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
