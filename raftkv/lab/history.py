"""What clients saw: one operation per JSON line, and what a well-formed history is.

    {"client": "c3", "call": 12.031, "return": 12.035, "op": "put", "args": {"key": "a", "value": "v7"}, "result": {"revision": 9}}

``call`` and ``return`` are seconds of one monotonic clock. There are three outcomes:

    known      ``return`` and ``result`` are there
    unknown    both are null: it may have happened, may still happen, or never; that client id is retired
    refused    ``result`` is {"error": …}: surely not applied, for a write; no answer, for a read

Operations, their arguments and results. ``revision`` is the header's; it and ``mod_revision`` may be missing where the store has
none. ``previous`` may be missing.

    put      key, value                     revision, previous: item or null
    get      key                            revision, item: item or null
    delete   key, end?                      revision, deleted: count, previous: [item, …]
    range    key, end                       revision, items: [item, …], all keys from ``key`` up to before ``end``
    cas      key, expected (null: missing), value      revision, succeeded, item: what was there, where it failed
    txn      when: [[key, value or null], …], then: [{"op": …, "args": …}, …], otherwise: […]
                                            revision, succeeded, responses: [results of the branch that was taken]

An item is ``[key, value, mod_revision or null]``. Values that are written are unique in the history, so that a value names its
write, and no key is touched by more than 200 operations, so that a checker comes to an end.

What may not live here: judgement (``linearizability.py``), and what operations mean (``history_model.py``).
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPERATIONS_PER_KEY_MAX = 200
UNKNOWN = math.inf  # The return time of an operation that never returned.


class HistoryError(ValueError):
    """A history that cannot be judged, because it breaks the rules above. Names the line."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as its client saw it.

    Attributes:
        number: its line in the history, from 1.
        call: when it was called; seconds.
        returned: when it returned; ``UNKNOWN`` if it never did.
        result: None if it never returned.
    """

    number: int
    client: str
    call: float
    returned: float
    op: str
    args: Mapping[str, Any]
    result: Mapping[str, Any] | None

    @property
    def known(self) -> bool:
        return self.result is not None and "error" not in self.result

    @property
    def unknown(self) -> bool:
        return self.result is None

    @property
    def refused(self) -> bool:
        return self.result is not None and "error" in self.result

    @property
    def revision(self) -> int | None:
        """The revision in the header of its answer."""
        return None if self.result is None else self.result.get("revision")

    def to_json(self) -> str:
        line = {
            "client": self.client,
            "call": self.call,
            "return": None if self.unknown else self.returned,
            "op": self.op,
            "args": self.args,
            "result": self.result,
        }
        return json.dumps(line, separators=(",", ":"))

    @classmethod
    def from_json(cls, number: int, line: str) -> Operation:
        """Raises HistoryError."""
        try:
            raw = json.loads(line)
            returned = UNKNOWN if raw["return"] is None else float(raw["return"])
            operation = cls(
                number, str(raw["client"]), float(raw["call"]), returned, raw["op"], raw["args"], raw["result"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise HistoryError(f"line {number} is no operation: {error!r}") from error
        if (operation.returned == UNKNOWN) != operation.unknown:
            raise HistoryError(f"line {number}: return and result must both be there, or both be null")
        if operation.returned < operation.call:
            raise HistoryError(f"line {number} returns before its call")
        return operation

    def __str__(self) -> str:
        end = "never" if self.unknown else f"{self.returned:.6f}"
        result = "unknown" if self.result is None else _compact(self.result)
        return f"#{self.number} {self.client} [{self.call:.6f} … {end}] {self.op} {_compact(self.args)} → {result}"


class Recorder:
    """Collects what clients see. Any thread or task may use it; the order of the lines is the order of the returns."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._operations: list[Operation] = []

    @property
    def operations(self) -> Sequence[Operation]:
        """Everything recorded so far; what is in flight is not in it."""
        with self._lock:
            return tuple(self._operations)

    def now(self) -> float:
        """The time of a call, to be taken before anything is sent."""
        return self._clock()

    def returned(self, client: str, call: float, op: str, args: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """An answer came. Take care to call this after it came, and not before."""
        self._add(client, call, self._clock(), op, args, result)

    def refused(self, client: str, call: float, op: str, args: Mapping[str, Any], error: str) -> None:
        """It surely was not applied; a read has no answer."""
        self._add(client, call, self._clock(), op, args, {"error": error})

    def never_returned(self, client: str, call: float, op: str, args: Mapping[str, Any]) -> None:
        """Nobody knows. The caller has to go on under another client id."""
        self._add(client, call, UNKNOWN, op, args, None)

    def _add(
        self,
        client: str,
        call: float,
        returned: float,
        op: str,
        args: Mapping[str, Any],
        result: Mapping[str, Any] | None,
    ) -> None:
        with self._lock:
            number = len(self._operations) + 1
            self._operations.append(Operation(number, client, call, returned, op, args, result))


def load(path: Path) -> list[Operation]:
    """Read a history.

    Raises:
        HistoryError: a line is no operation.
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8") as lines:
        return [Operation.from_json(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def dump(path: Path, operations: Iterable[Operation]) -> None:
    """Write a history. Raises OSError."""
    path.write_text("".join(f"{operation.to_json()}\n" for operation in operations), encoding="utf-8")


def check_form(operations: Sequence[Operation], keys_of: Callable[[Operation], Iterable[str]]) -> None:
    """Check the rules at the top of this file.

    Args:
        operations: the history.
        keys_of: the keys that an operation touches.

    Raises:
        HistoryError: a rule is broken.
    """
    last: dict[str, Operation] = {}
    for operation in sorted(operations, key=lambda operation: (operation.call, operation.returned)):
        before = last.get(operation.client)
        if before is not None and before.returned > operation.call:
            raise HistoryError(
                f"client {operation.client} calls #{operation.number} before its #{before.number} returned"
            )
        last[operation.client] = operation
    _check_values(operations)
    uses = Counter(key for operation in operations for key in keys_of(operation))
    for key, count in uses.most_common(1):
        if count > OPERATIONS_PER_KEY_MAX:
            raise HistoryError(f"key {key!r} is touched by {count} operations; at most {OPERATIONS_PER_KEY_MAX} may be")


def values_written(op: str, args: Mapping[str, Any]) -> Iterator[str]:
    """The values that an operation writes, in whichever branch."""
    if op == "txn":
        for branch in ("then", "otherwise"):
            for inner in args.get(branch, ()):
                yield from values_written(inner["op"], inner["args"])
    elif op in ("put", "cas"):
        yield args["value"]


def _check_values(operations: Sequence[Operation]) -> None:
    writers: dict[str, int] = {}
    for operation in operations:
        for value in values_written(operation.op, operation.args):
            if writers.setdefault(value, operation.number) != operation.number or not isinstance(value, str):
                raise HistoryError(f"#{writers[value]} and #{operation.number} both write {value!r}: values are unique")


def _compact(mapping: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in mapping.items())
