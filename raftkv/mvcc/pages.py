"""LMDB's file, read page by page without LMDB: every tree in key order, and a verdict on each page on the way.

LMDB maps its file and believes it: there are no checksums, and a damaged page leads to wrong answers or kills the process.
What this reader establishes before LMDB may open the file:

- Both meta pages are what LMDB writes, one commit apart; the later one is in force.
- Every page says of itself what its parent expects (number, kind, depth), its nodes fill it without gap or overlap, their keys
  ascend, and lie between the keys that lead to the page. So whatever is there is found by a look-up.
- The trees have as many entries and pages as they are said to have.
- No page is in two places: neither of two trees, nor of a tree and the list of free pages.

Bytes that mean nothing (the gap in the middle of a page, free pages) are not looked at.

What may not live here: what our own records mean (`checking`), and anything that writes.

Source: LMDB 0.9, mdb.c: MDB_meta, MDB_db, MDB_page, MDB_node.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from raftkv.errors import CorruptionError, StorageError

_HEADER: Final = struct.Struct("<QHHHH")  # number, padding, flags, lower, upper
_HEADER_BYTES: Final = _HEADER.size
_OVERFLOW_HEADER: Final = struct.Struct("<QHHI")  # number, padding, flags, pages
_NODE: Final = struct.Struct("<HHHH")  # low and high half of the data's size, flags, length of the key
_NODE_BYTES: Final = _NODE.size
_unpack_node = _NODE.unpack_from
_NUMBER: Final = struct.Struct("<Q")
_TREE: Final = struct.Struct("<IHHQQQQQ")
_META: Final = struct.Struct(
    "<IIQQ48s48sQQ"
)  # magic, version, address, size of the map, free and main tree, last page, txn
_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_META_PAGES: Final = 2
_DEPTH_MAX: Final = 32

_BRANCH, _LEAF, _OVERFLOW, _META_PAGE, _SUBPAGE = 0x01, 0x02, 0x04, 0x08, 0x52
_BIG, _SUBTREE, _DUPLICATES = 0x01, 0x02, 0x04
_NO_PAGE: Final = 2**64 - 1

INTEGER_KEYS: Final = 0x08
DUPLICATES: Final = 0x04

Pair = tuple[bytes, bytes]


class Tree(NamedTuple):
    """LMDB's record of one B-tree."""

    padding: int
    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int


class Meta(NamedTuple):
    """What a meta page says."""

    page_bytes: int
    free: Tree
    main: Tree
    last_page: int
    transaction: int


class PageFile:
    """An LMDB file that nobody has open for writing. Each tree may be walked once: pages are counted as they are met."""

    def __init__(self, path: Path) -> None:
        """Raises: CorruptionError (the meta pages are damaged, or the file is torn), StorageError."""
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        try:
            self.size = os.fstat(self._descriptor).st_size
            self.meta = self._read_meta()
            self._page_bytes = self.meta.page_bytes
            self.used_bytes = (self.meta.last_page + 1) * self._page_bytes
            if self.size < self.used_bytes:
                raise self.damaged(f"it is torn: {self.size} bytes, its header says {self.used_bytes}")
            os.posix_fadvise(self._descriptor, 0, self.used_bytes, os.POSIX_FADV_WILLNEED)
            self._met = bytearray(self.meta.last_page + 1)
            self._met[:_META_PAGES] = b"\1" * _META_PAGES
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> PageFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def damaged(self, what: str) -> CorruptionError:
        return CorruptionError(f"{self.path} is damaged: {what}")

    # --- meta pages ---------------------------------------------------------------------------------------------------

    def _read_meta(self) -> Meta:
        first = self._meta_at(0, 0)
        second = self._meta_at(1, first.page_bytes)
        # LMDB takes the first if both are of one transaction: then the second is of a first commit whose write failed.
        later, earlier = (second, first) if second.transaction > first.transaction else (first, second)
        if second.page_bytes != first.page_bytes:
            raise self.damaged("its two meta pages differ in the size of a page")
        # Transaction N writes meta page N modulo 2; a new or copied file holds a 0 in both, or 0 and 1.
        if not (later.transaction == earlier.transaction == 0 or later.transaction == earlier.transaction + 1):
            raise self.damaged(f"its meta pages are of transactions {first.transaction} and {second.transaction}")
        return later

    def _meta_at(self, number: int, page_bytes: int) -> Meta:
        offset = number * page_bytes
        data = self._read(offset, _HEADER_BYTES + _META.size)
        found, _, flags, _, _ = _HEADER.unpack_from(data)
        magic, version, _, _, free, main, last_page, transaction = _META.unpack_from(data, _HEADER_BYTES)
        free_tree, main_tree = Tree(*_TREE.unpack(free)), Tree(*_TREE.unpack(main))
        size = free_tree.padding  # The free tree's padding holds the size of a page.
        if (found, flags, magic, version) != (number, _META_PAGE, _MAGIC, _VERSION):
            raise self.damaged(f"page {number} is no meta page")
        if size & (size - 1) or not 512 <= size <= 65536 or (transaction and transaction % _META_PAGES != number):
            raise self.damaged(f"meta page {number} says what LMDB never writes")
        if free_tree.flags != INTEGER_KEYS or main_tree.flags or main_tree.padding:
            raise self.damaged(f"meta page {number} has trees of another kind")
        return Meta(size, free_tree, main_tree, last_page, transaction)

    # --- trees --------------------------------------------------------------------------------------------------------

    def subtrees(self) -> dict[bytes, Tree]:
        """The named databases."""
        found = {}
        for leaf in self.leaves(self.meta.main, _SUBTREE):
            for key, data in leaf:
                if len(data) != _TREE.size:
                    raise self.damaged(f"the database {key!r} has a record of {len(data)} bytes")
                found[key] = Tree(*_TREE.unpack(data))
        return found

    def take_free_pages(self) -> None:
        """Walk the list of free pages. Call it last: a page of it that was met in a tree is damage.

        Raises:
            CorruptionError
        """
        for leaf in self.leaves(self.meta.free):
            for transaction, data in leaf:
                numbers = struct.unpack_from(f"<{len(data) // 8}Q", data)
                if len(transaction) != 8 or _NUMBER.unpack(transaction)[0] > self.meta.transaction or not numbers:
                    raise self.damaged("the list of free pages has an entry that LMDB never writes")
                if numbers[0] >= len(numbers):
                    raise self.damaged("the list of free pages is cut short")
                for number in numbers[1 : numbers[0] + 1]:
                    self._meet(number, 1)

    def leaves(self, tree: Tree, flags: int = 0) -> Iterator[list[Pair]]:
        """All of a tree in key order, as (key, data), in lists of a page or less; duplicates as so many pairs.

        `flags` is what every node of it must have.

        Raises:
            CorruptionError
        """
        walk = _Walk(self, tree, flags)
        if tree.root == _NO_PAGE:
            walk.finish()
            return
        if not 0 < tree.depth <= _DEPTH_MAX:
            raise self.damaged(f"a tree is {tree.depth} deep")
        try:
            yield from walk.descend(tree.root, tree.depth, None, None)
        except struct.error as error:
            raise self.damaged(f"a node lies outside its page ({error})") from error
        walk.finish()

    # --- pages --------------------------------------------------------------------------------------------------------

    def page(self, number: int, kind: int) -> bytes:
        """A page of a tree, which must be of this kind."""
        self._meet(number, 1)
        data = self._read(number * self._page_bytes, self._page_bytes)
        found, _, flags, _, _ = _HEADER.unpack_from(data)
        if found != number or flags != kind:
            raise self.damaged(f"page {number} says it is page {found} of kind {flags:#x}, not of kind {kind:#x}")
        return data

    def overflow(self, number: int, size: int) -> tuple[bytes, int]:
        """A value too large for a page, and how many pages it takes."""
        pages = (_HEADER_BYTES + size - 1) // self._page_bytes + 1
        self._meet(number, pages)
        data = self._read(number * self._page_bytes, _HEADER_BYTES + size)
        found, _, flags, count = _OVERFLOW_HEADER.unpack_from(data)
        if (found, flags, count) != (number, _OVERFLOW, pages):
            raise self.damaged(f"page {number} is not the first of {pages} pages of a large value")
        return data[_HEADER_BYTES:], pages

    @property
    def met(self) -> bytes:
        """A 1 for each page that was met, from page 0 on."""
        return bytes(self._met)

    def meet_all(self, met: bytes) -> None:
        """Those that a walk in another process has met.

        Raises:
            CorruptionError: one of them was met here too.
        """
        # Byte by byte, as one number: there may be millions of them.
        here, there = (int.from_bytes(pages[_META_PAGES:], "big") for pages in (self._met, met))
        if both := here & there:
            number = len(self._met) - 1 - (both.bit_length() - 1) // 8
            raise self.damaged(f"page {number} is in two trees")
        self._met[_META_PAGES:] = (here | there).to_bytes(len(self._met) - _META_PAGES, "big")

    def _meet(self, number: int, count: int) -> None:
        if not _META_PAGES <= number <= len(self._met) - count or any(self._met[number : number + count]):
            raise self.damaged(f"page {number} is in two places, or beyond the end")
        self._met[number : number + count] = b"\1" * count

    def _read(self, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}") from error
        if len(data) < size:
            raise self.damaged(f"it ends within the page at {offset}")
        return data


class _Walk:
    """One tree's walk, counting what it meets."""

    def __init__(self, file: PageFile, tree: Tree, flags: int) -> None:
        self._file = file
        self._tree = tree
        self._flags = flags
        self._branches = self._leaves = self._overflow = self._entries = 0

    def finish(self) -> None:
        tree = self._tree
        if tree.entries != self._entries:
            raise self._file.damaged(f"a tree has {self._entries} entries, not {tree.entries}")
        # LMDB loses count of the pages of a tree that once had trees of duplicates in it.
        said = (tree.branch_pages, tree.leaf_pages, tree.overflow_pages)
        found = (self._branches, self._leaves, self._overflow)
        if said != found and not tree.flags & DUPLICATES:
            raise self._file.damaged(f"a tree has {found} branches, leaves and overflow pages, not {said}")

    def descend(self, number: int, depth: int, low: bytes | None, high: bytes | None) -> Iterator[list[Pair]]:
        """The leaves below a page, all of whose keys must be at least `low` and less than `high`."""
        if depth == 1:
            yield from self._leaf(number, low, high)
            return
        self._branches += 1
        data = self._file.page(number, _BRANCH)
        pointers, used_bytes = _pointers(data)
        keys, children = [], []
        for offset in pointers:
            size_low, size_high, flags, key_bytes = _unpack_node(data, offset)
            used_bytes -= _NODE_BYTES + key_bytes + 1 & ~1
            keys.append(data[offset + _NODE_BYTES : offset + _NODE_BYTES + key_bytes])
            children.append(size_low | size_high << 16 | flags << 32)
        if used_bytes or not children:
            raise self._file.damaged(f"the nodes of page {number} do not fill it")
        bounds = [low, *keys[1:], high]  # The first key of a branch is not looked at.
        for index, child in enumerate(children):
            yield from self.descend(child, depth - 1, bounds[index], bounds[index + 1])

    def _leaf(self, number: int, low: bytes | None, high: bytes | None) -> Iterator[list[Pair]]:
        self._leaves += 1
        file, usual = self._file, self._flags
        data = file.page(number, _LEAF)
        pointers, used_bytes = _pointers(data)
        pairs: list[Pair] = []
        keys: list[bytes] = []
        for offset in pointers:
            size_low, size_high, flags, key_bytes = _unpack_node(data, offset)
            middle = offset + _NODE_BYTES + key_bytes
            end = middle + (size_low | size_high << 16)
            key = data[offset + _NODE_BYTES : middle]
            keys.append(key)
            if flags == usual:
                pairs.append((key, data[middle:end]))
            elif flags == _BIG:
                value, pages = file.overflow(_NUMBER.unpack_from(data, middle)[0], end - middle)
                pairs.append((key, value))
                self._overflow += pages
                end = middle + _NUMBER.size
            else:
                yield pairs
                self._entries += len(pairs)
                pairs = []
                yield from self._duplicates(key, data[middle:end], flags)
            used_bytes -= end - offset + 1 & ~1
        if used_bytes:
            raise file.damaged(f"the nodes of page {number} do not fill it")
        self._check_order(number, keys, low, high)
        self._entries += len(pairs)
        yield pairs

    def _check_order(self, number: int, keys: list[bytes], low: bytes | None, high: bytes | None) -> None:
        if self._tree.flags & INTEGER_KEYS:
            keys = [key[::-1] for key in keys]
            low, high = low and low[::-1], high and high[::-1]
        if any(map(bytes.__ge__, keys, keys[1:])):
            raise self._file.damaged(f"the keys of page {number} do not ascend")
        if keys and ((low is not None and keys[0] < low) or (high is not None and keys[-1] >= high)):
            raise self._file.damaged(f"page {number} holds a key that the pages above it do not lead to")

    def _duplicates(self, key: bytes, data: bytes, flags: int) -> Iterator[list[Pair]]:
        """A key's many values: a page within the page, or a tree of their own."""
        if not self._tree.flags & DUPLICATES:
            raise self._file.damaged(f"the node of {key!r} is of kind {flags:#x}")
        if flags == _DUPLICATES | _SUBTREE:
            if len(data) != _TREE.size:
                raise self._file.damaged(f"the values of {key!r} have a record of {len(data)} bytes")
            tree = Tree(*_TREE.unpack(data))
            self._entries += tree.entries
            for leaf in self._file.leaves(tree._replace(flags=0)):
                yield [(key, value) for value, _ in leaf]
            return
        kind = _HEADER.unpack_from(data)[2]
        if flags != _DUPLICATES or kind != _SUBPAGE:
            raise self._file.damaged(f"the values of {key!r} are of kind {kind:#x}")
        pointers, used_bytes = _pointers(data)
        values = []
        for offset in pointers:
            size_low, size_high, node_flags, key_bytes = _unpack_node(data, offset)
            end = offset + _NODE_BYTES + key_bytes
            values.append(data[offset + _NODE_BYTES : end])
            used_bytes -= end - offset + 1 & ~1
            if size_low or size_high or node_flags:
                raise self._file.damaged(f"a value of {key!r} has a value")
        if used_bytes or any(map(bytes.__ge__, values, values[1:])):
            raise self._file.damaged(f"the values of {key!r} do not ascend")
        self._entries += len(values)
        yield [(key, value) for value in values]


def _pointers(data: bytes) -> tuple[tuple[int, ...], int]:
    """Where the nodes of a page begin, and how many bytes they take: nodes are packed against the page's end."""
    _, _, _, lower, upper = _HEADER.unpack_from(data)
    count = lower - _HEADER_BYTES >> 1
    pointers = struct.unpack_from(f"<{count}H", data, _HEADER_BYTES)
    if upper < lower or min(pointers, default=len(data)) != upper:
        raise struct.error(f"nodes from {lower} and {upper} on")
    return pointers, len(data) - upper
