"""Leases as they lie in LMDB: what was granted, when each ends, which keys hang on it, and the clock that they end by.

    database `leases`                  id -> TTL granted, deadline
    database `lease_deadlines`         deadline, id -> nothing: the next to end comes first
    database `lease_keys` (DUPSORT)    id -> the keys that hang on it, in order

Deadlines are moments of the replicated clock, in milliseconds; a lease that lies here lives, whatever any other clock says.
A key's present version names its lease too: what lies here is the way from the lease to its keys.

What may not live here: when a lease is granted, renewed or ended (`raftkv.lease`), and what becomes of its keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

import lmdb

from raftkv.mvcc.environment import Environment
from raftkv.mvcc.schema import (
    DEADLINE,
    LEASE,
    LEASE_DEADLINES_SALT,
    LEASE_ID,
    LEASE_KEYS_SALT,
    LEASES_SALT,
    SET_HASH_MASK,
)


@dataclass(frozen=True, slots=True)
class Lease:
    id: int
    ttl_s: int
    """As granted; each renewal begins it anew."""
    deadline_ms: int
    """Of the replicated clock."""


class Leases:
    """The leases of a store, within its open write transaction.

    Invariants: a lease has one entry in `lease_deadlines`; a key is in `lease_keys` exactly where its present version
    names that lease, and that lease exists. `set_hash` is the sum of all entries' hashes.
    """

    def __init__(self) -> None:
        self.load(0, 0)

    def load(self, clock_ms: int, set_hash: int) -> None:
        """Go on from what was committed."""
        self.clock_ms = clock_ms
        self._set_hash = set_hash
        self._is_next_known = False
        self._next_deadline_ms: int | None = None

    def begin(self, txn: lmdb.Transaction[bytes], environment: Environment) -> None:
        """A new transaction is open."""
        self._records = txn.cursor(environment.leases)
        self._deadlines = txn.cursor(environment.lease_deadlines)
        self._keys = txn.cursor(environment.lease_keys)

    @property
    def set_hash(self) -> int:
        """Equal on all nodes at an equal applied index, and another one wherever an entry differs."""
        return self._set_hash & SET_HASH_MASK

    # --- leases -------------------------------------------------------------------------------------------------------

    def get(self, lease_id: int) -> Lease | None:
        packed = self._records.get(LEASE_ID.pack(lease_id))
        return None if packed is None else Lease(lease_id, *LEASE.unpack(packed))

    def exists(self, lease_id: int) -> bool:
        return self._records.set_key(LEASE_ID.pack(lease_id))

    @property
    def next_deadline_ms(self) -> int | None:
        """When the first of them ends; None: there is no lease."""
        if not self._is_next_known:
            self._next_deadline_ms = DEADLINE.unpack(self._deadlines.key())[0] if self._deadlines.first() else None
            self._is_next_known = True
        return self._next_deadline_ms

    def next_due(self) -> Lease | None:
        """The lease that ends first, if its deadline has come; of several, the one with the smaller id."""
        if not self._deadlines.first():
            return None
        deadline_ms, lease_id = DEADLINE.unpack(self._deadlines.key())
        return self.get(lease_id) if deadline_ms <= self.clock_ms else None

    def by_deadline(self) -> Iterator[int]:
        """All ids, the next to end first. Nothing may be changed meanwhile."""
        if not self._deadlines.first():  # It goes on from where it stands.
            return iter(())
        return (DEADLINE.unpack(key)[1] for key in self._deadlines.iternext(keys=True, values=False))

    def put(self, lease: Lease) -> None:
        """Add a lease, or give one that exists another deadline."""
        former = self.get(lease.id)
        if former == lease:
            return  # Renewed twice in the same moment of the clock.
        if former is not None:
            self._remove_records(former)
        key, packed = LEASE_ID.pack(lease.id), LEASE.pack(lease.ttl_s, lease.deadline_ms)
        deadline = DEADLINE.pack(lease.deadline_ms, lease.id)
        self._records.put(key, packed)
        self._deadlines.put(deadline, b"")
        self._set_hash += crc32(key + packed, LEASES_SALT) + crc32(deadline, LEASE_DEADLINES_SALT)
        self._is_next_known = False

    def remove(self, lease: Lease) -> None:
        """Forget a lease on which no key hangs any more."""
        assert not self._keys.set_key(LEASE_ID.pack(lease.id)), f"keys still hang on lease {lease.id:x}"
        self._remove_records(lease)
        self._is_next_known = False

    def _remove_records(self, lease: Lease) -> None:
        key, packed = LEASE_ID.pack(lease.id), LEASE.pack(lease.ttl_s, lease.deadline_ms)
        deadline = DEADLINE.pack(lease.deadline_ms, lease.id)
        is_found = self._records.set_key(key) and self._records.delete()
        assert is_found, f"lease {lease.id:x} is not stored"
        is_found = self._deadlines.set_key(deadline) and self._deadlines.delete()
        assert is_found, f"lease {lease.id:x} has no entry at its deadline {lease.deadline_ms}"
        self._set_hash -= crc32(key + packed, LEASES_SALT) + crc32(deadline, LEASE_DEADLINES_SALT)

    # --- keys ---------------------------------------------------------------------------------------------------------

    def keys(self, lease_id: int) -> list[bytes]:
        """What hangs on a lease, in order."""
        if not self._keys.set_key(LEASE_ID.pack(lease_id)):
            return []
        return list(self._keys.iternext_dup())

    def attach(self, lease_id: int, key: bytes) -> None:
        packed = LEASE_ID.pack(lease_id)
        is_new = self._keys.put(packed, key, dupdata=False)
        assert is_new, f"{key!r} hangs on lease {lease_id:x} already"
        self._set_hash += crc32(packed + key, LEASE_KEYS_SALT)

    def detach(self, lease_id: int, key: bytes) -> None:
        packed = LEASE_ID.pack(lease_id)
        is_found = self._keys.set_key_dup(packed, key) and self._keys.delete()
        assert is_found, f"{key!r} does not hang on lease {lease_id:x}"
        self._set_hash -= crc32(packed + key, LEASE_KEYS_SALT)
