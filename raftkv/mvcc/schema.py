"""How keys, revisions and values look in LMDB: the packing, and nothing that opens, reads or writes a database.

Numbers are big-endian, so that LMDB's byte order is their order. Checksums are zlib's CRC-32: LMDB has none of its own.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from raftkv.errors import CorruptionError
from raftkv.pb import mvcc_pb2

KEY_BYTES_MAX = 511
"""LMDB's limit on a key (format 0.9). Put refuses a longer one; reads of a longer one find nothing, rightly."""

SUB_MAX = 2**64 - 1
NEVER_COMPACTED = -1
"""The compact revision of a store that was never compacted, as in etcd (visible in HashKV)."""

REVISION = struct.Struct(">QQ")
"""Key of a stored value: main revision, then the number of the change within that main revision."""
REVISION_BYTES = REVISION.size

VERSION = struct.Struct(">QQQQqI")
"""One entry of the index, behind its user key: mod main, mod sub, create main, version, lease, checksum of the stored value.

The first 16 bytes are the key of the stored value. Version 0 marks a tombstone: the key was deleted here.
"""
VERSION_CHECKSUM = struct.Struct(">40xI")
"""The last field of `VERSION` alone."""

COUNTERS = struct.Struct(">qqQQQQQ")
"""revision, compact revision, how far physical removal has come (main, sub), and the set hash of the index; the clock that
leases end by, and the set hash of everything stored of leases.

The set hash is the sum of `version_hash` over all entries of the index, modulo 2**64: it can be kept up to date entry by
entry, and no entry can be lost, changed or doubled without it being another.
"""
COUNTERS_KEY = b"mvcc"

LEASE_ID = struct.Struct(">q")
"""Key of a lease and of its keys. etcd takes any number but 0."""
LEASE = struct.Struct(">QQ")
"""A lease, behind its id: TTL granted in seconds, deadline in milliseconds of the replicated clock."""
DEADLINE = struct.Struct(">Qq")
"""Key in the order of deadlines: deadline, id."""
LEASES_SALT, LEASE_DEADLINES_SALT, LEASE_KEYS_SALT = 1, 2, 3
"""Each entry's checksum begins with its database's number: nothing can move from one to another unnoticed."""

SET_HASH_MASK = 2**64 - 1
_SEAL = struct.Struct(">I")

_new_key_value = mvcc_pb2.KeyValue


def encode_key_value(key: bytes, create: int, mod: int, version: int, value: bytes, lease: int) -> bytes:
    """The stored form of a value: a serialized KeyValue, so that answers are made by concatenation."""
    message = _new_key_value(
        key=key, create_revision=create, mod_revision=mod, version=version, value=value, lease=lease
    )
    encoded: bytes = message.SerializeToString()
    return encoded


def version_hash(key: bytes, packed: bytes) -> int:
    """What an entry of the index, a user key and a packed `VERSION`, adds to the set hash."""
    return zlib.crc32(key + packed)


def seal(key: bytes, value: bytes) -> bytes:
    """A record of the database `meta` as it is stored: the value, and the checksum of key and value."""
    return value + _SEAL.pack(zlib.crc32(key + value))


def unseal(key: bytes, stored: bytes, place: Path) -> bytes:
    """The inverse of `seal`; `place` is for the error.

    Raises:
        CorruptionError
    """
    value = stored[: -_SEAL.size]
    if seal(key, value) != stored:
        raise CorruptionError(f"{place}: the record {key!r} is damaged")
    return value


def user_key_of(stored: bytes) -> bytes:
    """The user key of a stored KeyValue, without parsing the value behind it: field 1 always comes first."""
    assert stored[0] == 0x0A, f"a stored value starts with {stored[0]:#x}, not with its key"
    length = stored[1]
    if length < 0x80:
        return stored[2 : 2 + length]
    length = (length & 0x7F) | (stored[2] << 7)  # Two bytes are enough for KEY_BYTES_MAX.
    return stored[3 : 3 + length]


def varint(number: int) -> bytes:
    """A non-negative number in protobuf's variable-length encoding."""
    assert number >= 0, f"varint of {number}"
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
