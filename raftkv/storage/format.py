"""Bytes of the write-ahead log: segment header, records, items. Pure functions; the picture is in the package docstring.

May not live here: files, and what the items mean together (`recovery`).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from raftkv import wire
from raftkv.raft.ready import Save
from raftkv.raft.types import Entry, HardState, SnapshotMeta

FORMAT: Final = 1
MAGIC: Final = b"raftkvWL"

_HEADER: Final = struct.Struct("<8sIIQ8sQ")  # magic, format, 0, sequence, salt, capacity
_CRC: Final = struct.Struct("<I")
SEGMENT_HEADER_BYTES: Final = _HEADER.size + _CRC.size

_RECORD: Final = struct.Struct("<8sIIQ")  # salt, crc, payload length, durable
_RECORD_SEED: Final = struct.Struct("<QIQ")  # offset of the record, payload length, durable
RECORD_HEADER_BYTES: Final = _RECORD.size
RECORD_PAYLOAD_BYTES_MAX: Final = 2**32 - 1

_ITEM: Final = struct.Struct("<BI")  # kind, length
_HARD_STATE: Final = struct.Struct("<QQQ")
_HEAD: Final = struct.Struct("<QQQ")


class ItemKind(IntEnum):
    """What a record holds, in order. An unknown kind is never skipped: it may be a vote."""

    HEAD = 1
    """First in a segment: where the one before it ends, and the last index and term when this one began."""
    BASE = 2
    """The log up to this snapshot is no longer needed; the entries behind it stay."""
    RESET = 3
    """The log starts anew behind this snapshot; no earlier entry stays."""
    ENTRY = 4
    """Replaces everything from its index on."""
    HARD_STATE = 5


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    sequence: int
    salt: bytes
    capacity: int
    """Size of the file when it was put in service; a shorter file was cut by somebody."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Head:
    previous_end: int
    last_index: int
    last_term: int


@dataclass(frozen=True, slots=True)
class Record:
    payload: memoryview
    durable: int
    end: int


Item = tuple[ItemKind, Head | SnapshotMeta | Entry | HardState]


def encode_segment_header(header: SegmentHeader) -> bytes:
    fixed = _HEADER.pack(MAGIC, header.format, 0, header.sequence, header.salt, header.capacity)
    return fixed + _CRC.pack(zlib.crc32(fixed))


def decode_segment_header(data: bytes) -> SegmentHeader:
    """Layout and checksum are the same in every format, so that an old version can tell "newer" from "damaged".

    Raises:
        ValueError: the bytes are no segment header.
    """
    if len(data) < SEGMENT_HEADER_BYTES:
        raise ValueError("the segment header is cut short")
    fixed = data[: _HEADER.size]
    (crc,) = _CRC.unpack_from(data, _HEADER.size)
    magic, version, _, sequence, salt, capacity = _HEADER.unpack(fixed)
    if magic != MAGIC or crc != zlib.crc32(fixed):
        raise ValueError("the segment header is damaged")
    return SegmentHeader(sequence=sequence, salt=salt, capacity=capacity, format=version)


def encode_record(parts: Iterable[bytes], *, salt: bytes, offset: int, durable: int) -> bytearray:
    """One record out of items (see `*_item`), for exactly this place in exactly this segment; the payload is copied once."""
    record = bytearray().join((bytes(RECORD_HEADER_BYTES), *parts))
    length = len(record) - RECORD_HEADER_BYTES
    assert length <= RECORD_PAYLOAD_BYTES_MAX, f"a record of {length} bytes"
    with memoryview(record) as view:
        crc = zlib.crc32(view[RECORD_HEADER_BYTES:], _seed(offset, length, durable))
    _RECORD.pack_into(record, 0, salt, crc, length, durable)
    return record


def decode_record(data: memoryview, offset: int, salt: bytes) -> Record | None:
    """The record at `offset` of a segment's bytes, or None if no intact record of this segment begins there."""
    start = offset + RECORD_HEADER_BYTES
    if start > len(data):
        return None
    found, crc, length, durable = _RECORD.unpack_from(data, offset)
    end = start + length
    if found != salt or end > len(data):
        return None
    payload = data[start:end]
    if zlib.crc32(payload, _seed(offset, length, durable)) != crc:
        return None
    return Record(payload=payload, durable=durable, end=end)


def _seed(offset: int, length: int, durable: int) -> int:
    return zlib.crc32(_RECORD_SEED.pack(offset, length, durable))


def head_item(head: Head) -> tuple[bytes, ...]:
    return _item(ItemKind.HEAD, _HEAD.pack(head.previous_end, head.last_index, head.last_term))


def base_item(meta: SnapshotMeta) -> tuple[bytes, ...]:
    return _item(ItemKind.BASE, wire.encode_snapshot_meta(meta))


def reset_item(meta: SnapshotMeta) -> tuple[bytes, ...]:
    return _item(ItemKind.RESET, wire.encode_snapshot_meta(meta))


def entry_item(entry: Entry) -> tuple[bytes, ...]:
    head, data = wire.encode_entry_parts(entry)
    return (_ITEM.pack(ItemKind.ENTRY, len(head) + len(data)), head, data)


def hard_state_item(state: HardState) -> tuple[bytes, ...]:
    return _item(ItemKind.HARD_STATE, _HARD_STATE.pack(state.term, state.vote, state.commit_index))


def _item(kind: ItemKind, body: bytes) -> tuple[bytes, ...]:
    return (_ITEM.pack(kind, len(body)), body)


def save_items(save: Save) -> Iterator[bytes]:
    """A save in the order the core wants it carried out."""
    if save.reset_to is not None:
        yield from reset_item(save.reset_to)
    for entry in save.entries:
        yield from entry_item(entry)
    if save.hard_state is not None:
        yield from hard_state_item(save.hard_state)


def decode_items(payload: memoryview) -> Iterator[Item]:
    """The items of a record whose checksum was right.

    Raises:
        ValueError: an item of an unknown kind, or one that does not mean anything.
    """
    offset = 0
    while offset < len(payload):
        if offset + _ITEM.size > len(payload):
            raise ValueError("an item is cut short")
        number, length = _ITEM.unpack_from(payload, offset)
        start, offset = offset + _ITEM.size, offset + _ITEM.size + length
        if offset > len(payload):
            raise ValueError("an item is cut short")
        if number not in ItemKind._value2member_map_:
            raise ValueError(f"item kind {number} is unknown to this version")
        kind = ItemKind(number)
        yield kind, _decode_item(kind, bytes(payload[start:offset]))


def _decode_item(kind: ItemKind, body: bytes) -> Head | SnapshotMeta | Entry | HardState:
    match kind:
        case ItemKind.ENTRY:
            return wire.decode_entry(body)
        case ItemKind.BASE | ItemKind.RESET:
            return wire.decode_snapshot_meta(body)
        case ItemKind.HARD_STATE:
            return HardState(*_unpack(_HARD_STATE, body))
        case ItemKind.HEAD:
            return Head(*_unpack(_HEAD, body))


def _unpack(layout: struct.Struct, body: bytes) -> tuple[int, ...]:
    if len(body) != layout.size:
        raise ValueError(f"an item of {len(body)} bytes in place of {layout.size}")
    return layout.unpack(body)
