"""`-w protobuf`: the answer as it came over the wire, nothing added. Endpoint commands have no such message."""

from __future__ import annotations

from google.protobuf.message import Message

from raftkv.cli.printers import LeaderMoved, MemberAdded, MemberChanged, Style


def _message(answer: Message, _: Style) -> bytes:
    return answer.SerializeToString()


put = get = delete = txn = watch = member_list = alarm = _message


def member_changed(changed: MemberAdded | MemberChanged, style: Style) -> bytes:
    return _message(changed.response, style)


member_add = member_remove = member_update = member_promote = member_changed


def move_leader(moved: LeaderMoved, style: Style) -> bytes:
    return _message(moved.response, style)
