"""Where a member's data directory can be damaged: the regions of its files, by kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from raftkv.mvcc.pages import PageFile
from raftkv.storage import format as fmt
from tests.storage_faults.donor import SEALED

META_BYTES = 16 + 136
"""Of a meta page: its header, and what LMDB keeps there."""


@dataclass(frozen=True)
class Place:
    """Bytes of one file, from `begin` up to before `end`. `file` is relative to the data directory."""

    kind: str
    file: str
    begin: int
    end: int


def places_of(member: Path) -> list[Place]:
    """Every file of a member, in regions."""
    places = [
        Place(kind, name, 0, (member / name).stat().st_size)
        for kind, name in (
            ("identity", "raftkv.json"),
            ("peers", "peers.json"),
            ("lock", "LOCK"),
            ("LMDB lock", "state/lock.mdb"),
            ("snapshot half swapped in", "state/incoming.mdb"),
            ("sealed snapshot", SEALED),
        )
        if (member / name).exists()
    ]
    for kind, folder in (("flight record", "flight"), ("snapshot in flight", "snapshots")):
        # A snapshot may have been announced, and not a byte of it have come, when the member stopped.
        places += [_whole(kind, member, path) for path in sorted((member / folder).iterdir()) if path.stat().st_size]
    for path in sorted((member / "wal").iterdir()):
        places += _log_places(member, path)
    places += _state_places(member)
    assert all(place.begin < place.end for place in places), places
    return places


def _whole(kind: str, member: Path, path: Path) -> Place:
    return Place(kind, str(path.relative_to(member)), 0, path.stat().st_size)


def _log_places(member: Path, path: Path) -> list[Place]:
    """A segment's head, its first, middle and last thirds of records, the records that hold a vote, and what is not used."""
    name = str(path.relative_to(member))
    if path.suffix != ".wal":
        return [_whole("spare segment", member, path)]
    data = path.read_bytes()
    salt = fmt.decode_segment_header(data[: fmt.SEGMENT_HEADER_BYTES]).salt
    view = memoryview(data)
    records = []
    offset = fmt.SEGMENT_HEADER_BYTES
    while (record := fmt.decode_record(view, offset, salt)) is not None:
        records.append((offset, record.end, {kind for kind, _ in fmt.decode_items(record.payload)}))
        offset = record.end
    places = [Place("log: header", name, 0, fmt.SEGMENT_HEADER_BYTES)]
    third = -(-(len(records)) // 3)
    for part, begin in (("head", 0), ("middle", third), ("tail", 2 * third)):
        if chosen := records[begin : begin + third]:
            places.append(Place(f"log: {part}", name, chosen[0][0], chosen[-1][1]))
    for begin, end, kinds in records[1:]:
        if kinds == {fmt.ItemKind.HARD_STATE}:
            places.append(Place("log: hard state", name, begin, end))
    if offset < len(data):
        places.append(Place("log: unused", name, offset, len(data)))
    return places


class _Pages(PageFile):
    """Remembers which pages are in use, and what they are."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.used: dict[int, tuple[str, int]] = {}

    def page(self, number: int, kind: int) -> bytes:
        self.used[number] = ("LMDB branch page" if kind == 0x01 else "LMDB leaf page", 1)
        return super().page(number, kind)

    def overflow(self, number: int, size: int) -> tuple[bytes, int]:
        data, pages = super().overflow(number, size)
        self.used[number] = ("LMDB large value", pages)
        return data, pages


def _state_places(member: Path) -> list[Place]:
    """LMDB's file, page by page."""
    name = "state/data.mdb"
    with _Pages(member / name) as file:
        for tree in file.subtrees().values():
            for _ in file.leaves(tree):
                pass
        file.take_free_pages()
    found = {0: ("LMDB meta page 0", 1), 1: ("LMDB meta page 1", 1)} | file.used
    last_page = file.meta.last_page
    size = file.meta.page_bytes
    taken = {number + offset for number, (_, pages) in found.items() for offset in range(pages)}
    found |= {number: ("LMDB free page", 1) for number in range(last_page + 1) if number not in taken}
    found[last_page + 1] = ("LMDB beyond the end", 100)
    return [
        Place(kind, name, number * size, number * size + (META_BYTES if "meta" in kind else pages * size))
        for number, (kind, pages) in sorted(found.items())
    ]
