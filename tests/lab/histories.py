"""Histories for tests: written by hand, made from a sequential store, and judged by trying every order.

The store and the judge here share no code with ``raftkv.lab``: they read the format as it is documented, as plainly as possible.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

from raftkv.lab.history import UNKNOWN, Operation

KEYS = ("a", "b", "c")


class Script:
    """A history by hand: ``at=(call, return)``; a return of None is an unknown outcome. Each operation has its own client."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def put(self, key: str, value: str, at: tuple[float, float | None], revision: int | None = None) -> Script:
        return self.add("put", {"key": key, "value": value}, at, {}, revision)

    def get(
        self,
        key: str,
        value: str | None,
        at: tuple[float, float | None],
        revision: int | None = None,
        mod: int | None = None,
    ) -> Script:
        item = None if value is None else [key, value, mod]
        return self.add("get", {"key": key}, at, {"item": item}, revision)

    def delete(self, key: str, at: tuple[float, float | None], deleted: int = 1, revision: int | None = None) -> Script:
        return self.add("delete", {"key": key}, at, {"deleted": deleted}, revision)

    def cas(
        self,
        key: str,
        expected: str | None,
        value: str,
        at: tuple[float, float | None],
        succeeded: bool = True,
        revision: int | None = None,
    ) -> Script:
        args = {"key": key, "expected": expected, "value": value}
        return self.add("cas", args, at, {"succeeded": succeeded}, revision)

    def range(
        self,
        items: dict[str, str],
        at: tuple[float, float | None],
        key: str = "a",
        end: str = "z",
        revision: int | None = None,
    ) -> Script:
        shown = [[name, value, None] for name, value in items.items()]
        return self.add("range", {"key": key, "end": end}, at, {"items": shown}, revision)

    def refused(self, op: str, args: dict[str, Any], at: tuple[float, float | None]) -> Script:
        return self.add(op, args, at, {"error": "no leader"}, None)

    def add(
        self,
        op: str,
        args: dict[str, Any],
        at: tuple[float, float | None],
        result: dict[str, Any],
        revision: int | None = None,
    ) -> Script:
        number = len(self.operations) + 1
        call, returned = at
        told = result if revision is None else result | {"revision": revision}
        self.operations.append(
            Operation(
                number,
                f"c{number}",
                float(call),
                UNKNOWN if returned is None else float(returned),
                op,
                args,
                None if returned is None else told,
            )
        )
        return self


class Store:
    """The plainest store that gives such answers. A value is kept with the revision of its put."""

    def __init__(self) -> None:
        self.items: dict[str, tuple[str, int]] = {}
        self.revision = 1

    def do(self, op: str, args: dict[str, Any], *, tell_previous: bool = True) -> dict[str, Any]:
        """Do it as one step, and answer as a history has it."""
        before = {key: value for key, (value, _) in self.items.items()}
        self._next = self.revision + 1
        self._changed = False
        result = self._txn(args, before, tell_previous) if op == "txn" else self._one(op, args, tell_previous)
        if self._changed:
            self.revision = self._next
        return result | {"revision": self.revision}

    def _txn(self, args: dict[str, Any], before: dict[str, str], tell: bool) -> dict[str, Any]:
        succeeded = all(before.get(key) == value for key, value in args["when"])
        branch = args["then"] if succeeded else args["otherwise"]
        return {"succeeded": succeeded, "responses": [self._one(one["op"], one["args"], tell) for one in branch]}

    def _one(self, op: str, args: dict[str, Any], tell: bool) -> dict[str, Any]:
        key = args["key"]
        item = [key, *self.items[key]] if key in self.items else None
        if op == "get":
            return {"item": item}
        if op == "range":
            return {"items": [[name, *self.items[name]] for name in sorted(self.items) if key <= name < args["end"]]}
        if op == "put":
            self._set(key, args["value"])
            return {"previous": item} if tell else {}
        if op == "delete":
            names = [name for name in sorted(self.items) if key <= name < args["end"]] if "end" in args else [key]
            gone = [[name, *self.items.pop(name)] for name in names if name in self.items]
            self._changed = self._changed or bool(gone)
            return {"deleted": len(gone)} | ({"previous": gone} if tell else {})
        assert op == "cas"
        if (None if item is None else item[1]) == args["expected"]:
            self._set(key, args["value"])
            return {"succeeded": True}
        return {"succeeded": False} | ({"item": item} if tell else {})

    def _set(self, key: str, value: str) -> None:
        self.items[key] = (value, self._next)
        self._changed = True


def random_operation(rng: random.Random, store: Store, value: str) -> tuple[str, dict[str, Any]]:
    """Something to do to a store. Compare-and-swap has a fair chance to succeed."""
    key = rng.choice(KEYS)
    current = store.items.get(key, (None, 0))[0]
    expected = rng.choice([current, current, None, "v1"])
    match rng.choice(["put", "put", "get", "get", "delete", "range", "cas", "txn", "clear"]):
        case "put":
            return "put", {"key": key, "value": value}
        case "get":
            return "get", {"key": key}
        case "delete":
            return "delete", {"key": key}
        case "clear":
            return "delete", {"key": "a", "end": "c"}
        case "range":
            return "range", {"key": "a", "end": rng.choice(["b", "c", "d"])}
        case "cas":
            return "cas", {"key": key, "expected": expected, "value": value}
        case _:
            other = KEYS[(KEYS.index(key) + 1) % len(KEYS)]
            put = {"op": "put", "args": {"key": other, "value": value}}
            read = {"op": "range", "args": {"key": "a", "end": "d"}}
            drop = {"op": "delete", "args": {"key": key}}
            return "txn", {"when": [[key, expected]], "then": [put, drop], "otherwise": [read]}


def execution(rng: random.Random, count: int, *, spread: float = 3.0, unknown: float = 0.2) -> list[Operation]:
    """What clients see of a real sequential execution: each thing happens at one moment between its call and its return."""
    store = Store()
    operations = []
    for number in range(1, count + 1):
        op, args = random_operation(rng, store, f"v{number}")
        moment = float(number)
        call, returned = moment - rng.random() * spread, moment + rng.random() * spread
        lost = rng.random() < unknown
        result = store.do(op, args, tell_previous=rng.random() < 0.7) if not lost or rng.random() < 0.5 else {}
        operations.append(
            Operation(number, f"c{number}", call, UNKNOWN if lost else returned, op, args, None if lost else result)
        )
    return operations


def mutated(rng: random.Random, operations: Sequence[Operation]) -> list[Operation]:
    """The same history with one answer that may be a lie."""
    position = rng.choice([n for n, operation in enumerate(operations) if operation.known])
    victim = operations[position]
    assert victim.result is not None
    result = dict(victim.result)
    match victim.op:
        case "get":
            result["item"] = rng.choice([None, *([victim.args["key"], value, None] for value in _values(operations))])
        case "range":
            items = [list(item) for item in result["items"]]
            if items and rng.random() < 0.5:
                items.pop(rng.randrange(len(items)))
            else:
                items = [["a", rng.choice(_values(operations) or ["never"]), None], *items[1:]]
            result["items"] = items
        case "delete":
            result = {"deleted": result["deleted"] + rng.choice([-1, 1])}
        case "cas":
            result = {"succeeded": not result["succeeded"]}
        case "txn":
            result["succeeded"] = not result["succeeded"]
            branch = victim.args["then"] if result["succeeded"] else victim.args["otherwise"]
            result["responses"] = [{"deleted": 1} if one["op"] == "delete" else {"items": []} for one in branch]
            result["responses"] = [
                {} if one["op"] == "put" else answer for one, answer in zip(branch, result["responses"], strict=True)
            ]
        case _:
            result["previous"] = rng.choice([None, *([victim.args["key"], v, None] for v in _values(operations))])
    result.pop("revision", None)
    changed = Operation(
        victim.number, victim.client, victim.call, victim.returned, victim.op, victim.args, _without_revisions(result)
    )
    rest = [
        Operation(o.number, o.client, o.call, o.returned, o.op, o.args, o.result and _without_revisions(o.result))
        for o in operations
    ]
    rest[position] = changed
    return rest


def any_order_fits(operations: Sequence[Operation]) -> bool:
    """Try every order of every choice of the unknown operations: right beyond doubt, and hopeless beyond seven or so."""
    required = [operation for operation in operations if operation.known]
    unknown = [operation for operation in operations if operation.unknown]
    return any(
        _order_fits(order)
        for chosen in _subsets(unknown)
        for order in permutations(required + chosen)
        if all(not (b.returned < a.call) for n, a in enumerate(order) for b in order[n + 1 :])
    )


def _order_fits(order: Sequence[Operation]) -> bool:
    store = Store()
    for operation in order:
        told = _values_only(store.do(operation.op, dict(operation.args)))
        if operation.result is not None and not _agrees(_values_only(dict(operation.result)), told):
            return False
    return True


def _agrees(claimed: Any, told: Any) -> bool:
    """Whether everything that is claimed was told; what is not claimed may be anything."""
    if isinstance(claimed, dict):
        return isinstance(told, dict) and all(name in told and _agrees(claimed[name], told[name]) for name in claimed)
    if isinstance(claimed, list) and claimed and isinstance(claimed[0], dict):
        return len(claimed) == len(told) and all(_agrees(a, b) for a, b in zip(claimed, told, strict=True))
    return claimed == told


def _values_only(result: dict[str, Any]) -> Any:
    """An answer without revisions."""
    return {name: _strip(name, value) for name, value in result.items() if name != "revision"}


def _strip(name: str, value: Any) -> Any:
    if name in ("item", "previous") and value and not isinstance(value[0], list):
        return value[:2]
    if name in ("items", "previous") and value:
        return [item[:2] for item in value]
    return [_values_only(one) for one in value] if name == "responses" else value


def _without_revisions(result: Any) -> dict[str, Any]:
    stripped: dict[str, Any] = _values_only(dict(result))
    return {name: _padded(name, value) for name, value in stripped.items()}


def _padded(name: str, value: Any) -> Any:
    if name == "responses":
        return [{inner: _padded(inner, one[inner]) for inner in one} for one in value]
    return value


def _subsets(operations: Sequence[Operation]) -> Iterator[list[Operation]]:
    for bits in range(1 << len(operations)):
        yield [operation for n, operation in enumerate(operations) if bits >> n & 1]


def _values(operations: Sequence[Operation]) -> list[str]:
    return [f"v{operation.number}" for operation in operations if operation.op in ("put", "cas", "txn")]
