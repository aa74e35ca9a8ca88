"""The state machine's own records in the store's `meta` database: reading and writing them, nothing else.

    "format"          version of this layout
    "cluster"         cluster id
    "applied"         SnapshotMeta: applied index and term, and the membership there
    "members"         MemberTable
    "alarms"          the alarms that are on (`alarms`)
    "origin/" + id    OriginRecord
    "sessions"        how many sessions have ever been opened
    "session/" + id   SessionRecord

They are written at each commit, in the transaction of the data they belong to: applied index and data never differ.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from raftkv.errors import CorruptionError, DataDirError
from raftkv.mvcc.store import Store
from raftkv.raft.types import Membership, SnapshotMeta
from raftkv.statemachine import alarms
from raftkv.statemachine.members import MemberTable
from raftkv.statemachine.origins import OriginRecord, Origins
from raftkv.statemachine.sessions import Session, Sessions
from raftkv.wire import decode_snapshot_meta, encode_snapshot_meta

FORMAT = 3
"""3: leases and sessions. A state of another format is refused: it was written by another raftkv."""

_FORMAT_KEY = b"format"
_CLUSTER_KEY = b"cluster"
_APPLIED_KEY = b"applied"
_MEMBERS_KEY = b"members"
_ORIGIN_PREFIX = b"origin/"
_SESSIONS_KEY = b"sessions"
_SESSION_PREFIX = b"session/"
_U64 = struct.Struct(">Q")


@dataclass(slots=True)
class Records:
    """Everything the state machine knows beside the key space."""

    cluster_id: int
    applied: SnapshotMeta
    table: MemberTable
    origins: Origins
    sessions: Sessions
    alarms: alarms.Alarms = ()


def load(store: Store) -> Records | None:
    """What was committed last; None if the store was never bootstrapped.

    Raises:
        DataDirError: of another format.
        CorruptionError
    """
    found = store.meta(_FORMAT_KEY)
    if found is None:
        return None
    version = _number(found)
    if version != FORMAT:
        raise DataDirError(f"{store.environment.path}: format {version}, this raftkv knows {FORMAT} alone")
    try:
        cluster_id = _number(_need(store, _CLUSTER_KEY))
        return Records(
            cluster_id=cluster_id,
            applied=decode_snapshot_meta(_need(store, _APPLIED_KEY)),
            table=MemberTable.decode(_need(store, _MEMBERS_KEY)),
            origins=Origins(
                {
                    _number(key[len(_ORIGIN_PREFIX) :]): OriginRecord.decode(value)
                    for key, value in store.metas(_ORIGIN_PREFIX)
                }
            ),
            sessions=Sessions(
                cluster_id,
                _number(_need(store, _SESSIONS_KEY)),
                {
                    _number(key[len(_SESSION_PREFIX) :]): Session.decode(value)
                    for key, value in store.metas(_SESSION_PREFIX)
                },
            ),
            alarms=alarms.load(store),
        )
    except ValueError as error:
        raise CorruptionError(f"{store.environment.path}: {error}") from error


def write_new(store: Store, records: Records) -> None:
    """Put the records of a new store."""
    store.put_meta(_FORMAT_KEY, _U64.pack(FORMAT))
    store.put_meta(_CLUSTER_KEY, _U64.pack(records.cluster_id))
    write_members(store, records.table)
    write_changed(store, records)


def write_new_identity(store: Store, cluster_id: int, table: MemberTable, membership: Membership) -> SnapshotMeta:
    """Make a copied state that of a new cluster. What the old one's members were up to means nothing there.

    The log of every member of the new cluster begins where that of the old one was, which is returned.

    Raises:
        DataDirError: there is no state, or one of another format.
        CorruptionError
    """
    found = load(store)
    if found is None:
        raise DataDirError(f"{store.environment.path} holds no state")
    for prefix in (_ORIGIN_PREFIX, _SESSION_PREFIX):
        for key, _ in store.metas(prefix):
            store.delete_meta(key)
    applied = SnapshotMeta(found.applied.index, found.applied.term, membership)
    write_new(store, Records(cluster_id, applied, table, Origins(), Sessions(cluster_id)))
    alarms.write(store, ())
    return applied


def write_changed(store: Store, records: Records) -> None:
    """Put what moves with every commit: the applied index, and the origins and sessions that have changed."""
    store.put_meta(_APPLIED_KEY, encode_snapshot_meta(records.applied))
    for origin, record in records.origins.take_changed():
        store.put_meta(_ORIGIN_PREFIX + _U64.pack(origin), record.encode())
    store.put_meta(_SESSIONS_KEY, _U64.pack(records.sessions.opened))
    for session_id, session in records.sessions.take_changed():
        key = _SESSION_PREFIX + _U64.pack(session_id)
        if session is None:
            store.delete_meta(key)
        else:
            store.put_meta(key, session.encode())


def write_members(store: Store, table: MemberTable) -> None:
    store.put_meta(_MEMBERS_KEY, table.encode())


def _need(store: Store, key: bytes) -> bytes:
    found = store.meta(key)
    if found is None:
        raise CorruptionError(f"{store.environment.path}: the record {key!r} is missing")
    return found


def _number(data: bytes) -> int:
    if len(data) != _U64.size:
        raise CorruptionError(f"a number has {len(data)} bytes: {data!r}")
    number: int = _U64.unpack(data)[0]
    return number
