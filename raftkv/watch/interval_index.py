"""Which of many ranges hold a key: a treap over the ranges' starts that knows how far each of its parts reaches.

Finding costs about the logarithm of the number of different ranges, and the matches; not the number of ranges. Equal ranges
share a node.

What may not live here: watchers.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class _Node(Generic[T]):
    """A range [start, end), its values, and the ranges around it in the tree."""

    __slots__ = ("end", "left", "priority", "reach", "right", "start", "values")

    def __init__(self, start: bytes, end: bytes, priority: float) -> None:
        self.start = start
        self.end = end
        self.priority = priority
        self.reach = end
        """The largest end in this part of the tree."""
        self.values: dict[T, None] = {}
        self.left: _Node[T] | None = None
        self.right: _Node[T] | None = None


class IntervalIndex(Generic[T]):
    """Ranges of keys [start, end), with values that are found by any key inside.

    Invariants: in order of (start, end) from left to right; no node's priority is above its parent's; `reach` is the
    largest end at or below a node.
    """

    def __init__(self, seed: int = 0) -> None:
        self._root: _Node[T] | None = None
        self._nodes: dict[tuple[bytes, bytes], _Node[T]] = {}
        self._rng = random.Random(seed)

    def __len__(self) -> int:
        """How many different ranges there are."""
        return len(self._nodes)

    def add(self, start: bytes, end: bytes, value: T) -> None:
        """Let `value` be found by every key in [start, end); the range must not be empty."""
        assert start < end, f"the range from {start!r} to {end!r} is empty"
        node = self._nodes.get((start, end))
        if node is None:
            node = self._nodes[start, end] = _Node(start, end, self._rng.random())
            self._root = _insert(self._root, node)
        node.values[value] = None

    def remove(self, start: bytes, end: bytes, value: T) -> None:
        """Undo `add`."""
        node = self._nodes[start, end]
        del node.values[value]
        if not node.values:
            del self._nodes[start, end]
            self._root = _remove(self._root, node)

    def at(self, key: bytes) -> Iterator[T]:
        """The values of all ranges that hold `key`."""
        pending = [self._root]
        while pending:
            node = pending.pop()
            if node is None or node.reach <= key:
                continue
            if node.start <= key:  # Else everything to the right starts behind the key too.
                pending.append(node.right)
                if key < node.end:
                    yield from node.values
            pending.append(node.left)

    def check(self) -> None:
        """Assert the invariants."""
        in_order = [(node.start, node.end) for node in _walk(self._root)]
        assert in_order == sorted(self._nodes), "the tree is out of order"
        for node in _walk(self._root):
            children = [child for child in (node.left, node.right) if child is not None]
            assert all(child.priority <= node.priority for child in children), f"{node.start!r} is below its place"
            assert node.reach == max([node.end, *(child.reach for child in children)]), f"{node.start!r}: wrong reach"


def _update(node: _Node[T]) -> None:
    reach = node.end
    if node.left is not None and node.left.reach > reach:
        reach = node.left.reach
    if node.right is not None and node.right.reach > reach:
        reach = node.right.reach
    node.reach = reach


def _insert(root: _Node[T] | None, new: _Node[T]) -> _Node[T]:
    if root is None:
        return new
    if new.priority > root.priority:
        new.left, new.right = _split(root, new)
        _update(new)
        return new
    if (new.start, new.end) < (root.start, root.end):
        root.left = _insert(root.left, new)
    else:
        root.right = _insert(root.right, new)
    _update(root)
    return root


def _split(root: _Node[T] | None, at: _Node[T]) -> tuple[_Node[T] | None, _Node[T] | None]:
    """What is before `at`, and what is behind it."""
    if root is None:
        return None, None
    if (root.start, root.end) < (at.start, at.end):
        root.right, behind = _split(root.right, at)
        _update(root)
        return root, behind
    before, root.left = _split(root.left, at)
    _update(root)
    return before, root


def _remove(root: _Node[T] | None, old: _Node[T]) -> _Node[T] | None:
    assert root is not None, f"the range from {old.start!r} is not in the tree"
    if root is old:
        return _join(root.left, root.right)
    if (old.start, old.end) < (root.start, root.end):
        root.left = _remove(root.left, old)
    else:
        root.right = _remove(root.right, old)
    _update(root)
    return root


def _join(before: _Node[T] | None, behind: _Node[T] | None) -> _Node[T] | None:
    if before is None or behind is None:
        return behind if before is None else before
    if before.priority > behind.priority:
        before.right = _join(before.right, behind)
        _update(before)
        return before
    behind.left = _join(before, behind.left)
    _update(behind)
    return behind


def _walk(root: _Node[T] | None) -> Iterator[_Node[T]]:
    if root is not None:
        yield from _walk(root.left)
        yield root
        yield from _walk(root.right)
