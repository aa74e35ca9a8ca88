"""Is a state what was written? Read from end to end before LMDB opens it, about 1 µs a record.

`pages` says that every record is found where a look-up goes; here it is settled that the records are the right ones:

- The database `meta` seals each record with a checksum.
- The sum of the index's entries' hashes is the set hash that the counters hold: none is missing, changed or doubled.
- Each entry of the index has the checksum of its value; summed with the revision, over index and values, they agree.
- Leases, their deadlines and their keys have a set hash of their own.

Index and values are half of the work each, and go on at the same time where the state is large (`values_reader`).

A state that fails is not served and not repaired here: CorruptionError. Its member is removed and added anew.

What may not live here: LMDB's format (`pages`), and the state machine's own records, which check themselves.
"""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

from raftkv.errors import DataDirError
from raftkv.mvcc.pages import DUPLICATES, PageFile, Tree
from raftkv.mvcc.schema import (
    COUNTERS,
    COUNTERS_KEY,
    LEASE_DEADLINES_SALT,
    LEASE_KEYS_SALT,
    LEASES_SALT,
    REVISION_BYTES,
    SET_HASH_MASK,
    VERSION,
    VERSION_CHECKSUM,
    unseal,
)
from raftkv.mvcc.values_reader import values_reader

_LEASES = {b"leases": LEASES_SALT, b"lease_deadlines": LEASE_DEADLINES_SALT, b"lease_keys": LEASE_KEYS_SALT}
_DATABASES = (
    {b"revisions": 0, b"index": DUPLICATES, b"meta": 0} | dict.fromkeys(_LEASES, 0) | {b"lease_keys": DUPLICATES}
)
_OLD_COUNTERS_BYTES = {32: "checksums", 44: "leases"}
"""Sizes that the counters had before there were such things."""
_unpack_checksum = VERSION_CHECKSUM.unpack


def check_state(path: Path) -> None:
    """Read a whole data file that nobody has open, and believe it or not. One that was never written to passes.

    Raises:
        CorruptionError: it is not what was written.
        DataDirError: of a format before checksums, or before leases.
        StorageError: it cannot be read.
    """
    if path.stat().st_size == 0:
        return  # Its creation was cut short: LMDB begins it anew.
    with PageFile(path) as file:
        trees = file.subtrees()
        if not trees.keys() <= _DATABASES.keys():
            raise file.damaged(f"it has the databases {sorted(trees)}")
        for name, tree in trees.items():
            if tree.flags != _DATABASES[name] or tree.padding:
                raise file.damaged(f"the database {name!r} is of another kind")
        if b"meta" in trees:
            _check_records(file, trees)
        file.take_free_pages()


def _check_records(file: PageFile, trees: dict[bytes, Tree]) -> None:
    set_hash, lease_hash = _set_hashes_of_meta(file, trees[b"meta"])
    missing = _DATABASES.keys() - trees.keys()
    if missing:
        raise file.damaged(f"it lacks the databases {sorted(missing)}")
    with values_reader(file, trees[b"revisions"]) as values:
        found, values_named = _sums_of_index(file, trees[b"index"])
        if found != set_hash:
            raise file.damaged(f"the set hash of the index is {found:#x}, not {set_hash:#x}")
        lease_found = sum(_sum_of_entries(file, trees[name], salt) for name, salt in _LEASES.items()) & SET_HASH_MASK
        if lease_found != lease_hash:
            raise file.damaged(f"the set hash of the leases is {lease_found:#x}, not {lease_hash:#x}")
        if values.sum() != values_named or trees[b"index"].entries != trees[b"revisions"].entries:
            raise file.damaged("the values are not those that the index names")


def _set_hashes_of_meta(file: PageFile, meta: Tree) -> tuple[int, int]:
    """Check every record's seal; the set hashes of index and leases from the counters, 0 in a store never committed to."""
    set_hash = lease_hash = 0
    for leaf in file.leaves(meta):
        for key, stored in leaf:
            if key == COUNTERS_KEY and (lacking := _OLD_COUNTERS_BYTES.get(len(stored))) is not None:
                raise DataDirError(f"{file.path} was written by a raftkv before 0.1.0, without {lacking}")
            value = unseal(key, stored, file.path)
            if key == COUNTERS_KEY:
                *_, set_hash, _, lease_hash = COUNTERS.unpack(value)
    return set_hash, lease_hash


def _sums_of_index(file: PageFile, index: Tree) -> tuple[int, int]:
    """The set hash of the entries, and the sum over what they say of their values."""
    set_hash = values = 0
    for leaf in file.leaves(index):
        for key, packed in leaf:
            if len(packed) != VERSION.size:
                raise file.damaged(f"an entry of the index, of {key!r}, has {len(packed)} bytes")
            set_hash += crc32(key + packed)
            values += crc32(packed[:REVISION_BYTES], _unpack_checksum(packed)[0])
    return set_hash & SET_HASH_MASK, values


def _sum_of_entries(file: PageFile, tree: Tree, salt: int) -> int:
    """What the entries of a database add to the set hash of the leases."""
    return sum(crc32(key + value, salt) for leaf in file.leaves(tree) for key, value in leaf)
