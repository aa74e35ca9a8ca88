"""The second oracle: the store numbers its states, so nobody has to search for the order.

Every answer of the etcd API carries a revision. Then:

- every write has a revision of its own;
- an operation that returned before another was called has a smaller revision, if the other wrote, or one that is not greater;
- what an answer at revision R shows is the state at R: for each key, the last write up to R.

A write of unknown outcome has happened at the revision at which its value was seen. One that nobody saw may have happened at any
revision that has no owner; where one might explain an answer the answer is let pass, so this oracle may overlook something, and
never accuses wrongly. ``history_search.py`` is the one that overlooks nothing, and knows nothing of revisions.

What may not live here: anything of the search; the two must not share a mistake.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from raftkv.lab.history_model import Action, Answer, Item, Normal


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something that no store could have done, and the operations that show it."""

    text: str
    operations: tuple[Normal, ...] = ()


@dataclass(slots=True)
class _Write:
    """What happened at one revision. ``effects``: the new values, None for deleted."""

    normal: Normal
    effects: dict[str, str | None] = field(default_factory=dict)


def check_revisions(normals: Sequence[Normal], refused: Sequence[Normal] = (), *, sole_writer: bool) -> Conflict | None:
    """The first conflict that is found, or None.

    Args:
        normals: operations of known and unknown outcome.
        refused: operations that surely were not applied.
        sole_writer: nobody else wrote to the store: then a revision without an owner belongs to an unknown write.
    """
    oracle = _Oracle(normals, refused)
    found = (
        conflict
        for part in (oracle.place_known(), oracle.place_seen(), oracle.real_time(), oracle.answers())
        for conflict in part
    )
    conflict = next(found, None)
    return oracle.unowned() if conflict is None and sole_writer else conflict


class _Oracle:
    def __init__(self, normals: Sequence[Normal], refused: Sequence[Normal]) -> None:
        self._normals = normals
        self._told = [normal for normal in normals if normal.observation is not None and _revision(normal) is not None]
        self._refused = {value: normal for normal in refused for value in _values(normal)}
        self._writers = {value: normal for normal in normals for value in _values(normal)}
        self._writes: dict[int, _Write] = {}
        self._revisions: list[int] = []
        self._by_key: defaultdict[str, list[int]] = defaultdict(list)
        self._seen_at: dict[int, int] = {}  # Number of an unknown operation -> its revision.
        self._hidden: list[Normal] = []  # Writes whose revision nobody knows, if they happened.
        self._partial: list[Normal] = []  # Writes of which only some effects are known.
        self._keys: list[str] = []

    # Which write made which revision.

    def place_known(self) -> Iterator[Conflict]:
        """Acknowledged writes: the header says where."""
        for normal in self._told:
            effects = _effects(normal)
            if effects:
                yield from self._place(_revision_of(normal), normal, effects)

    def place_seen(self) -> Iterator[Conflict]:
        """Writes that a read has shown, with the revision that made them."""
        for normal in self._normals:
            for item in _items(normal):
                yield from self._judge_item(normal, item)
        writers = [normal for normal in self._normals if normal.command.writes]
        self._hidden = [normal for normal in writers if not self._is_placed(normal)]
        self._partial = [normal for normal in writers if self._is_placed(normal) and _is_partial(normal)]
        self._keys = sorted(self._by_key)

    def _is_placed(self, normal: Normal) -> bool:
        if normal.observation is None:
            return normal.operation.number in self._seen_at
        return _revision(normal) is not None

    def _judge_item(self, reader: Normal, item: Item) -> Iterator[Conflict]:
        writer = self._writers.get(item.value)
        if writer is None:
            refused = self._refused.get(item.value)
            if refused is not None:
                yield Conflict(f"{item.value!r} is there, though its write was refused", (refused, reader))
            else:
                yield Conflict(f"{item.value!r} was never written", (reader,))
            return
        if item.mod_revision is None:
            return
        if writer.observation is None:
            yield from self._place(item.mod_revision, writer, _effects_of_value(writer, item.value), seen_by=reader)
            return
        write = self._writes.get(item.mod_revision)
        if write is None or write.normal is not writer or write.effects.get(item.key) != item.value:
            at = _revision(writer)
            if at is not None:
                text = f"{item.key!r} is shown with {item.value!r} of revision {item.mod_revision}, written at {at}"
                yield Conflict(text, (writer, reader))

    def _place(
        self, revision: int, normal: Normal, effects: dict[str, str | None], *, seen_by: Normal | None = None
    ) -> Iterator[Conflict]:
        if seen_by is not None:
            earlier = self._seen_at.setdefault(normal.operation.number, revision)
            if earlier != revision:
                yield Conflict(f"one write was seen at revisions {earlier} and {revision}", (normal, seen_by))
                return
        write = self._writes.get(revision)
        if write is None:
            write = self._writes[revision] = _Write(normal)
            insort(self._revisions, revision)
        elif write.normal is not normal:
            yield Conflict(f"two writes have revision {revision}", (write.normal, normal))
            return
        for key, value in effects.items():
            if key not in write.effects:
                insort(self._by_key[key], revision)
            write.effects[key] = value

    # Time.

    def real_time(self) -> Iterator[Conflict]:
        """What returned before something else was called must not come after it in the order of revisions."""
        returned = sorted(self._told, key=lambda normal: normal.returned)
        position = 0
        highest: Normal | None = None
        for later, revision, writes in sorted(self._placed(), key=lambda placed: placed[0].call):
            while position < len(returned) and returned[position].returned < later.call:
                candidate = returned[position]
                if highest is None or _revision_of(candidate) > _revision_of(highest):
                    highest = candidate
                position += 1
            if highest is None:
                continue
            reached = _revision_of(highest)
            if reached > revision or (writes and reached == revision):
                what = "was written at" if writes else "answered from"
                yield Conflict(
                    f"#{later.operation.number} {what} revision {revision}, "
                    f"after #{highest.operation.number} had returned revision {reached}",
                    (highest, later),
                )

    def _placed(self) -> Iterator[tuple[Normal, int, bool]]:
        for normal in self._told:
            revision = _revision_of(normal)
            write = self._writes.get(revision)
            yield normal, revision, write is not None and write.normal is normal
        for revision, write in self._writes.items():
            if write.normal.observation is None:
                yield write.normal, revision, True

    # States.

    def answers(self) -> Iterator[Conflict]:
        """Every answer must show the state at its revision."""
        for normal in self._told:
            revision = _revision_of(normal)
            write = self._writes.get(revision)
            base = revision - 1 if write is not None and write.normal is normal else revision
            yield from self._judge_conditions(normal, base)
            yield from self._judge_answers(normal, base)

    def _judge_conditions(self, normal: Normal, base: int) -> Iterator[Conflict]:
        assert normal.observation is not None, f"#{normal.operation.number} has no answer"
        possible = [(value, self._possible(key, base, normal)) for key, value in normal.command.when]
        if normal.observation.succeeded:
            for (key, value), values in zip(normal.command.when, possible, strict=True):
                if value not in values[1]:
                    text = f"it succeeded, but at revision {base} {key!r} was {_shown(values[1])} and not {value!r}"
                    yield Conflict(text, (*self._last_writer(key, base), normal))
        elif all(values == {value} for value, values in possible):
            yield Conflict(f"it failed, but at revision {base} all its conditions held", (normal,))

    def _judge_answers(self, normal: Normal, base: int) -> Iterator[Conflict]:
        assert normal.observation is not None, f"#{normal.operation.number} has no answer"
        own: dict[str, str | None] = {}
        branch = normal.command.branch(normal.observation.succeeded)
        for action, answer in zip(branch, normal.observation.answers, strict=True):
            if answer.items is not None:
                yield from self._judge_view(normal, action, answer, base, own)
            own.update(_effects_of(action, answer) or {})

    def _judge_view(
        self, normal: Normal, action: Action, answer: Answer, base: int, own: dict[str, str | None]
    ) -> Iterator[Conflict]:
        shown = {item.key: item for item in answer.items or ()}
        stray = [key for key in shown if not action.covers(key)]
        if stray or list(shown) != sorted(shown):
            yield Conflict(f"the answer's keys are out of order, or out of its range: {list(shown)}", (normal,))
        for key in self._covered(action, shown):
            item = shown.get(key)
            value = None if item is None else item.value
            possible = {own[key]} if key in own else self._possible(key, base, normal)
            if value not in possible:
                text = f"it shows {key!r} as {_shown({value})}; at revision {base} that was {_shown(possible)}"
                yield Conflict(text, (*self._last_writer(key, base), normal))

    def _possible(self, key: str, at: int, reader: Normal) -> set[str | None]:
        """The values that a key may have had at a revision: one, but for unknown writes that nobody saw."""
        revisions = self._by_key.get(key, [])
        position = bisect_right(revisions, at)
        last = revisions[position - 1] if position else 0
        values = {self._writes[last].effects[key] if position else None}
        owned = bisect_right(self._revisions, at) - bisect_right(self._revisions, last)
        # Where every revision since then has an owner, nothing hidden can have come between.
        suspects = self._partial if position and at - last == owned else self._partial + self._hidden
        for normal in suspects:
            if normal.call <= reader.returned:
                values |= {action.value for action in normal.command.actions if _changes(action, key)}
        return values

    def _covered(self, action: Action, shown: Iterable[str]) -> list[str]:
        if action.end is None:
            return [action.key]
        known = self._keys[bisect_left(self._keys, action.key) : bisect_left(self._keys, action.end)]
        return sorted({*known, *(key for key in shown if action.covers(key))})

    def _last_writer(self, key: str, at: int) -> tuple[Normal, ...]:
        revisions = self._by_key.get(key, [])
        position = bisect_right(revisions, at)
        return (self._writes[revisions[position - 1]].normal,) if position else ()

    def unowned(self) -> Conflict | None:
        """Between the first and the last revision seen, only writes that nobody saw can fill the gaps."""
        if not self._revisions:
            return None
        seen = [_revision_of(normal) for normal in self._told] + self._revisions
        missing = [revision for revision in range(self._revisions[0], max(seen) + 1) if revision not in self._writes]
        unaccounted = len(self._hidden) + len(self._partial)
        if len(missing) <= unaccounted:
            return None
        listed = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
        return Conflict(
            f"nobody wrote {len(missing)} of the revisions ({listed}), and only {unaccounted} writes are unaccounted for: "
            "something was applied twice, or by nobody"
        )


def _revision(normal: Normal) -> int | None:
    return None if normal.observation is None else normal.observation.revision


def _revision_of(normal: Normal) -> int:
    revision = _revision(normal)
    assert revision is not None, f"#{normal.operation.number} carries no revision"
    return revision


def _values(normal: Normal) -> Iterator[str]:
    return (action.value for action in normal.command.actions if action.value is not None)


def _items(normal: Normal) -> Iterator[Item]:
    if normal.observation is not None:
        for answer in normal.observation.answers:
            yield from answer.items or ()


def _effects(normal: Normal) -> dict[str, str | None]:
    """What an acknowledged operation has changed; a deletion that does not say which keys is left out."""
    assert normal.observation is not None, f"#{normal.operation.number} has no answer"
    effects: dict[str, str | None] = {}
    for action, answer in zip(
        normal.command.branch(normal.observation.succeeded), normal.observation.answers, strict=True
    ):
        effects.update(_effects_of(action, answer) or {})
    return effects


def _effects_of(action: Action, answer: Answer) -> dict[str, str | None] | None:
    """None where it is not known."""
    if action.kind == "put":
        return {action.key: action.value}
    if action.kind == "read" or answer.deleted == 0:
        return {}
    if action.end is None:
        return {action.key: None}
    return None if answer.items is None else {item.key: None for item in answer.items}


def _is_partial(normal: Normal) -> bool:
    if normal.observation is None:
        return any(action.kind == "delete" for action in normal.command.actions)
    branch = normal.command.branch(normal.observation.succeeded)
    return any(
        _effects_of(action, answer) is None for action, answer in zip(branch, normal.observation.answers, strict=True)
    )


def _changes(action: Action, key: str) -> bool:
    return action.kind != "read" and action.covers(key)


def _effects_of_value(normal: Normal, value: str) -> dict[str, str | None]:
    """The puts of the branch of an unknown operation that writes this value."""
    branch = normal.command.then if any(a.value == value for a in normal.command.then) else normal.command.otherwise
    return {action.key: action.value for action in branch if action.kind == "put"}


def _shown(values: set[str | None]) -> str:
    return " or ".join(sorted("missing" if value is None else repr(value) for value in values))
