"""What calls return: plain frozen values, the same in both faces.

What may not live here: anything that talks to a server, and anything that reads protobuf (see `calls.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as it was at one revision.

    Attributes:
        key: the key's bytes; `name` is the same as text.
        value: the value's bytes; `text` and `json()` decode it. Empty when only keys were asked for.
        create_revision: the revision of the put that created the key.
        mod_revision: the revision of the last put.
        version: how many puts since the key was created, from 1.
        lease: the lease the key hangs on, 0 for none.
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0

    @property
    def name(self) -> str:
        """The key as UTF-8 text."""
        return self.key.decode()

    @property
    def text(self) -> str:
        """The value as UTF-8 text."""
        return self.value.decode()

    def json(self) -> Any:
        """The value parsed as JSON."""
        return json.loads(self.value)


@dataclass(frozen=True, slots=True)
class PutResult:
    """A put was applied at `revision`; `previous` is what it replaced, if that was asked for."""

    revision: int
    previous: KeyValue | None = None


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """`deleted` keys were removed at `revision`; `previous` holds them, if that was asked for."""

    revision: int
    deleted: int
    previous: tuple[KeyValue, ...] = ()


@dataclass(frozen=True, slots=True)
class RangeResult:
    """One answer to a range: `items`, the store's `revision` when it was read, and the `count` without the limit."""

    revision: int
    items: tuple[KeyValue, ...]
    count: int
    more: bool = False

    @property
    def first(self) -> KeyValue | None:
        """The only item of a get, None where the key does not exist."""
        return self.items[0] if self.items else None


@dataclass(frozen=True, slots=True)
class TxnResult:
    """A transaction was applied: `succeeded` tells whether all conditions held, `responses` answer that branch in order."""

    succeeded: bool
    revision: int
    responses: tuple[PutResult | DeleteResult | RangeResult | TxnResult, ...] = ()


@dataclass(frozen=True, slots=True)
class CompactResult:
    """History before the revision asked for is gone; `revision` is the store's current one."""

    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What one member says of itself. Sizes are bytes."""

    cluster_id: int
    member_id: int
    revision: int
    version: str
    leader: int
    raft_term: int
    raft_index: int
    raft_applied_index: int
    db_size: int
    db_size_in_use: int
    is_learner: bool
    errors: tuple[str, ...]

    @property
    def is_leader(self) -> bool:
        """Whether this member leads."""
        return self.leader != 0 and self.leader == self.member_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One row of the member table. `name` is empty until the member has started for the first time."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


@dataclass(frozen=True, slots=True)
class HashResult:
    """A hash over the keys and revisions of one member, equal on all members at an equal revision."""

    hash: int
    compact_revision: int
    revision: int
