"""Alarms: what is wrong with a member and concerns all of them. Raised and ended through the log, kept with the records.

    NOSPACE   a member's database is beyond its quota: nobody takes writes that add to it
    CORRUPT   a member's data is not what the others have: nobody takes writes at all

Pure functions of plain values, and one record in the store.

What may not live here: who raises an alarm, and what is refused while it is on (`raftkv.server`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from raftkv.errors import TOO_MANY_ALARMS, CorruptionError, ResourceExhausted
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft.types import NodeId

STRANGERS_MAX = 100
"""Alarms of ids that are no members. etcd takes any id, 0 too, and keeps the alarm for good: a client can fill it with them."""
_KEY = b"alarms"


@dataclass(frozen=True, order=True, slots=True)
class Alarm:
    """One alarm that is on. `by_itself`: the node concerned raised it, and ends it when its cause is gone."""

    kind: int
    """An `AlarmType` of the API; etcd lets a client raise NONE too."""
    member: NodeId
    by_itself: bool = False

    def message(self) -> rpc_pb2.AlarmMember:
        return rpc_pb2.AlarmMember(memberID=self.member, alarm=self.kind)  # type: ignore[arg-type]  # Any number goes.


Alarms = tuple[Alarm, ...]
"""In ascending order; a member has one of a kind at most."""


def load(store: Store) -> Alarms:
    """Raises CorruptionError: the record is not what was written."""
    found = store.meta(_KEY)
    if found is None:
        return ()
    try:
        table = store_pb2.AlarmTable.FromString(found)
    except DecodeError as error:
        raise CorruptionError(f"{store.environment.path}: not a record of alarms: {error}") from error
    return tuple(Alarm(one.alarm.alarm, one.alarm.memberID, one.by_itself) for one in table.alarms)


def write(store: Store, alarms: Alarms) -> None:
    rows = [store_pb2.AlarmTable.Alarm(alarm=one.message(), by_itself=one.by_itself) for one in alarms]
    store.put_meta(_KEY, store_pb2.AlarmTable(alarms=rows).SerializeToString(deterministic=True))


def changed(
    alarms: Alarms, change: store_pb2.AlarmChange, *, members: Collection[NodeId]
) -> tuple[Alarms, rpc_pb2.AlarmResponse | ResourceExhausted]:
    """The alarms after a command, and etcd's answer to it: the alarm that was raised (or was on already) or ended.

    An alarm that a person raised is not ended by the node; one that the node raised is ended by whoever wants. For a member's there
    is always room; for those of other ids there may be none.
    """
    request = change.request
    at = next((one for one in alarms if (one.kind, one.member) == (request.alarm, request.memberID)), None)
    if request.action == rpc_pb2.AlarmRequest.ACTIVATE:
        if at is None:
            if request.memberID not in members and _strangers(alarms, members) >= STRANGERS_MAX:
                return alarms, ResourceExhausted(TOO_MANY_ALARMS)
            at = Alarm(request.alarm, request.memberID, change.by_itself)
            alarms = tuple(sorted((*alarms, at)))
        return alarms, rpc_pb2.AlarmResponse(alarms=(at.message(),))
    if request.action == rpc_pb2.AlarmRequest.DEACTIVATE and at is not None and at.by_itself >= change.by_itself:
        return tuple(one for one in alarms if one != at), rpc_pb2.AlarmResponse(alarms=(at.message(),))
    return alarms, rpc_pb2.AlarmResponse()


def _strangers(alarms: Alarms, members: Collection[NodeId]) -> int:
    return sum(one.member not in members for one in alarms)


def listed(alarms: Alarms, kind: int) -> list[rpc_pb2.AlarmMember]:
    """Those of a kind; NONE means all, as in etcd."""
    return [one.message() for one in alarms if kind in (rpc_pb2.NONE, one.kind)]
