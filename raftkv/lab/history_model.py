"""What operations mean: every one in the same form, and a sequential store that can be asked whether an answer fits.

All operations become a ``Command``: conditions, and two lists of actions, as in a txn. An ``Observation`` is what its client
was told. A store is a tuple of values, one slot per key, None where the key is missing; ``Component`` turns commands on its keys
into functions on such tuples.

What may not live here: the order of operations (``history_search.py``), and revisions (``history_revisions.py``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from raftkv.lab.history import HistoryError, Operation

State = tuple[str | None, ...]
Transition = Callable[[State], State | None]
"""The state after an operation; None where its observation contradicts the state before."""


class Item(NamedTuple):
    """A key as an answer showed it."""

    key: str
    value: str
    mod_revision: int | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """A read, and then perhaps a write, of one key (``end`` None) or of the keys from ``key`` up to before ``end``.

    Attributes:
        kind: "read", "put" or "delete".
        value: what a put writes.
    """

    kind: str
    key: str
    end: str | None = None
    value: str | None = None

    def covers(self, key: str) -> bool:
        return key == self.key if self.end is None else self.key <= key < self.end


@dataclass(frozen=True, slots=True)
class Command:
    """An operation without its outcome. ``when``: keys and the values they must have, None for missing."""

    when: tuple[tuple[str, str | None], ...]
    then: tuple[Action, ...]
    otherwise: tuple[Action, ...]

    @property
    def actions(self) -> tuple[Action, ...]:
        return self.then + self.otherwise

    @property
    def writes(self) -> bool:
        return any(action.kind != "read" for action in self.actions)

    def branch(self, succeeded: bool) -> tuple[Action, ...]:
        return self.then if succeeded else self.otherwise


@dataclass(frozen=True, slots=True)
class Answer:
    """What was told about one action.

    Attributes:
        items: what its keys held before it; None if that was not told.
        deleted: how many keys it deleted; None if that was not told.
    """

    items: tuple[Item, ...] | None = None
    deleted: int | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What a client was told: which branch was taken, and what its actions answered."""

    succeeded: bool
    answers: tuple[Answer, ...]
    revision: int | None


@dataclass(frozen=True, slots=True)
class Normal:
    """An operation in normal form; ``observation`` is None where the outcome is unknown."""

    operation: Operation
    command: Command
    observation: Observation | None

    @property
    def required(self) -> bool:
        """Whether it has happened for sure."""
        return self.observation is not None

    @property
    def call(self) -> float:
        return self.operation.call

    @property
    def returned(self) -> float:
        return self.operation.returned

    @property
    def blind(self) -> bool:
        """Whether what it does or answers depends on a value that it does not tell."""
        if self.observation is None:
            # Nobody saw it fail, so it can be left out instead, unless failing writes something.
            return bool(self.command.when) and any(action.kind != "read" for action in self.command.otherwise)
        told: set[str] = set()
        for action, answer in zip(
            self.command.branch(self.observation.succeeded), self.observation.answers, strict=True
        ):
            if answer.items is not None:
                told |= {item.key for item in answer.items} | ({action.key} if action.end is None else set())
            elif answer.deleted is not None:
                return True
            if action.kind != "read":
                break  # What comes after it may have seen its own write.
        return not self.observation.succeeded and any(key not in told for key, _ in self.command.when)

    def observed(self) -> Iterator[str]:
        """Every value that it depends on or was shown."""
        yield from (value for _, value in self.command.when if value is not None)
        if self.observation is not None:
            yield from (item.value for answer in self.observation.answers for item in answer.items or ())


def normalized(operation: Operation) -> Normal:
    """Bring an operation into normal form.

    Raises:
        HistoryError: it is not as ``history.py`` describes it.
    """
    try:
        command = _command(operation.op, operation.args)
        observation = _observation(operation, command) if operation.known else None
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise HistoryError(f"line {operation.number} is not a well-formed {operation.op}: {error!r}") from error
    return Normal(operation, command, observation)


def _command(op: str, args: Mapping[str, Any]) -> Command:
    match op:
        case "txn":
            when = tuple((key, value) for key, value in args["when"])
            branches = (tuple(_action(inner["op"], inner["args"]) for inner in args[name]) for name in _BRANCHES)
            return Command(when, *branches)
        case "cas":
            key = args["key"]
            put, read = Action("put", key, value=args["value"]), Action("read", key)
            return Command(((key, args["expected"]),), (put,), (read,))
        case _:
            return Command((), (_action(op, args),), ())


_BRANCHES = ("then", "otherwise")


def _action(op: str, args: Mapping[str, Any]) -> Action:
    match op:
        case "put":
            return Action("put", args["key"], value=args["value"])
        case "get":
            return Action("read", args["key"])
        case "range":
            return Action("read", args["key"], args["end"])
        case "delete":
            return Action("delete", args["key"], args.get("end"))
        case _:
            raise ValueError(f"there is no operation {op!r}")


def _observation(operation: Operation, command: Command) -> Observation:
    result = operation.result
    assert result is not None, f"#{operation.number} has no result"
    revision = result.get("revision")
    match operation.op:
        case "txn":
            succeeded = bool(result["succeeded"])
            answers = tuple(
                _answer(action, response)
                for action, response in zip(command.branch(succeeded), result["responses"], strict=True)
            )
            return Observation(succeeded, answers, revision)
        case "cas":
            succeeded = bool(result["succeeded"])
            return Observation(succeeded, (_answer(command.branch(succeeded)[0], result),), revision)
        case _:
            return Observation(True, (_answer(command.then[0], result),), revision)


def _answer(action: Action, result: Mapping[str, Any]) -> Answer:
    match action.kind:
        case "put":
            return Answer(items=_one(result["previous"])) if "previous" in result else Answer()
        case "delete":
            items = _many(result["previous"]) if "previous" in result else None
            return Answer(items=items, deleted=int(result["deleted"]))
        case _ if action.end is not None:
            return Answer(items=_many(result["items"]))
        case _:
            return Answer(items=_one(result["item"])) if "item" in result else Answer()


def _one(item: Sequence[Any] | None) -> tuple[Item, ...]:
    return () if item is None else (Item(*item),)


def _many(items: Iterable[Sequence[Any]]) -> tuple[Item, ...]:
    return tuple(Item(*item) for item in items)


class Component:
    """Some keys, and how operations on them change their values. Operations outside of it do not touch it."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = sorted(keys)
        self._slots = {key: slot for slot, key in enumerate(self.keys)}
        self.empty: State = (None,) * len(self.keys)

    def transition(self, normal: Normal) -> Transition:
        """What an operation does to the state, or that its answer does not fit it."""
        command, observation = normal.command, normal.observation
        when = [(self._slots[key], value) for key, value in command.when]
        succeeded = None if observation is None else observation.succeeded
        answers = () if observation is None else observation.answers
        untold = (Answer(),) * max(len(command.then), len(command.otherwise))
        then = self._compiled(command.then, answers if succeeded is True else untold)
        otherwise = self._compiled(command.otherwise, answers if succeeded is False else untold)

        def transition(state: State) -> State | None:
            holds = all(state[slot] == value for slot, value in when)
            if succeeded is not None and holds is not succeeded:
                return None
            return _performed(then if holds else otherwise, state)

        return transition

    def _compiled(self, actions: tuple[Action, ...], answers: tuple[Answer, ...]) -> list[_Compiled]:
        return [
            _Compiled(action, answer, *self._slots_of(action)) for action, answer in zip(actions, answers, strict=False)
        ]

    def _slots_of(self, action: Action) -> tuple[int, int, list[str]]:
        first = bisect_left(self.keys, action.key)
        last = first + 1 if action.end is None else bisect_left(self.keys, action.end)
        return first, last, self.keys[first:last]


class _Compiled:
    """An action on the slots ``first`` up to before ``last``."""

    __slots__ = ("deleted", "first", "fits", "last", "seen", "writes", "written")

    def __init__(self, action: Action, answer: Answer, first: int, last: int, keys: list[str]) -> None:
        self.first, self.last = first, last
        self.deleted = answer.deleted
        self.writes = action.kind != "read"
        self.written: State = (action.value,) if action.kind == "put" else (None,) * (last - first)
        self.seen: State | None = None
        self.fits = True
        if answer.items is not None:
            shown = {item.key: item.value for item in answer.items}
            # An answer with a key out of place, twice, or out of order fits no state.
            self.fits = [key for key in keys if key in shown] == [item.key for item in answer.items]
            self.seen = tuple(shown.get(key) for key in keys)


def _performed(actions: list[_Compiled], state: State) -> State | None:
    for action in actions:
        before = state[action.first : action.last]
        if not action.fits or (action.seen is not None and action.seen != before):
            return None
        if action.deleted is not None and action.deleted != len(before) - before.count(None):
            return None
        if action.writes:
            state = state[: action.first] + action.written + state[action.last :]
    return state


def known_keys(normals: Iterable[Normal]) -> set[str]:
    """Every key that a history names, in arguments or in answers."""
    keys: set[str] = set()
    for normal in normals:
        keys.update(key for key, _ in normal.command.when)
        keys.update(action.key for action in normal.command.actions if action.end is None)
        if normal.observation is not None:
            keys.update(item.key for answer in normal.observation.answers for item in answer.items or ())
    return keys


def touched(normal: Normal, keys: Sequence[str]) -> set[str]:
    """The keys, of all that are known (sorted), which an operation touches."""
    found = {key for key, _ in normal.command.when}
    for action in normal.command.actions:
        if action.end is None:
            found.add(action.key)
        else:
            found.update(keys[bisect_left(keys, action.key) : bisect_left(keys, action.end)])
    return found
