"""What clients of tier two ask for: each operation as a request to a node, and as a line of a history.

What may not live here: when they ask, and whom.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from raftkv.pb import rpc_pb2 as rpc
from raftkv.pb import store_pb2
from raftkv.statemachine import StateMachine

UNKNOWN_PER_GROUP = 5
"""So many writes of unknown outcome too: each may have happened, at any time since."""
KEYS = ("a", "b", "c")
OPERATIONS_PER_GROUP = 120
"""A group of keys is left for another one then: a checker's work grows fast with the operations on a key."""
Result = dict[str, Any]


class Group:
    """Keys that are read together, and what they were last seen to hold: good guesses for compare-and-swap."""

    def __init__(self, name: str) -> None:
        self.keys = [f"{name}/{key}" for key in KEYS]
        self.span = {"key": f"{name}/", "end": f"{name}0"}
        self.operations = 0
        self.unknown = 0
        self.seen: dict[str, str | None] = dict.fromkeys(self.keys)


@dataclass(frozen=True, slots=True)
class Asked:
    """One operation. Either `command` is set, or `request`: a read."""

    op: str
    args: Result
    group: Group
    told: Callable[[Any], Result]
    """From the answer to what a history says of it."""
    answer: type[Message]
    command: store_pb2.Command | None = None
    request: rpc.RangeRequest | None = None


class Menu:
    """Draws operations. `read_told` is called with every key, revision and value that any answer shows."""

    def __init__(self, rng: random.Random, read_told: Callable[[bytes, int, bytes], None]) -> None:
        self._rng = rng
        self._read_told = read_told
        self._values = 0
        self.groups = [Group("g0")]
        self.probes: list[str] = []
        self._makers = [self.put, self.get, self.cas, self.delete, self.range, self.txn]
        self._weights = [7, 6, 3, 1, 2, 2]

    def draw(self) -> Asked:
        group = self.groups[-1]
        group.operations += 1
        if group.operations == OPERATIONS_PER_GROUP or group.unknown >= UNKNOWN_PER_GROUP:
            self.groups.append(Group(f"g{len(self.groups)}"))
        return self._rng.choices(self._makers, self._weights)[0](group)

    def put(self, group: Group) -> Asked:
        key, value = self._rng.choice(group.keys), self._value()
        request = rpc.PutRequest(key=key.encode(), value=value.encode(), prev_kv=self._rng.random() < 0.3)

        def told(response: rpc.PutResponse) -> Result:
            group.seen[key] = value
            previous = {"previous": self._item(response.prev_kv)} if response.HasField("prev_kv") else {}
            return {"revision": response.header.revision} | previous

        return Asked(
            "put", {"key": key, "value": value}, group, told, rpc.PutResponse, command=store_pb2.Command(put=request)
        )

    def probe(self) -> Asked:
        """A write of a key that nobody else touches."""
        group = Group(f"probe{len(self.probes)}")
        self.probes.append(group.keys[0])
        group.keys = group.keys[:1]
        return self.put(group)

    def get(self, group: Group) -> Asked:
        key = self._rng.choice(group.keys)

        def told(response: rpc.RangeResponse) -> Result:
            item = self._item(response.kvs[0]) if response.kvs else None
            group.seen[key] = item[1] if item else None
            return {"revision": response.header.revision, "item": item}

        return Asked("get", {"key": key}, group, told, rpc.RangeResponse, request=rpc.RangeRequest(key=key.encode()))

    def probes_told(self, response: rpc.RangeResponse) -> list[tuple[Result, Result]]:
        """What a read of all probes says, as a history has it: one read for each of them."""
        items = {item[0]: item for item in map(self._item, response.kvs)}
        revision = response.header.revision
        return [({"key": key}, {"revision": revision, "item": items.get(key)}) for key in self.probes]

    def range(self, group: Group) -> Asked:
        def told(response: rpc.RangeResponse) -> Result:
            return {"revision": response.header.revision, "items": [self._item(kv) for kv in response.kvs]}

        return Asked("range", dict(group.span), group, told, rpc.RangeResponse, request=_range_of(group))

    def delete(self, group: Group) -> Asked:
        key = self._rng.choice(group.keys)

        def told(response: rpc.DeleteRangeResponse) -> Result:
            group.seen[key] = None
            return {"revision": response.header.revision} | self._deletion(response)

        request = rpc.DeleteRangeRequest(key=key.encode(), prev_kv=True)
        return Asked(
            "delete",
            {"key": key},
            group,
            told,
            rpc.DeleteRangeResponse,
            command=store_pb2.Command(delete_range=request),
        )

    def cas(self, group: Group) -> Asked:
        key, value = self._rng.choice(group.keys), self._value()
        expected = group.seen[key]
        put = rpc.PutRequest(key=key.encode(), value=value.encode())
        request = rpc.TxnRequest(
            compare=[_compare(key, expected)],
            success=[rpc.RequestOp(request_put=put)],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key.encode()))],
        )

        def told(response: rpc.TxnResponse) -> Result:
            outcome = {"revision": response.header.revision, "succeeded": response.succeeded}
            if response.succeeded:
                group.seen[key] = value
                return outcome
            found = response.responses[0].response_range.kvs
            item = self._item(found[0]) if found else None
            group.seen[key] = item[1] if item else None
            return outcome | {"item": item}

        args = {"key": key, "expected": expected, "value": value}
        return Asked("cas", args, group, told, rpc.TxnResponse, command=store_pb2.Command(txn=request))

    def txn(self, group: Group) -> Asked:
        """Two puts and a deletion at once, if a key holds what we think; else a look at all keys."""
        one, two, three = self._rng.sample(group.keys, 3)
        expected, first, second = group.seen[one], self._value(), self._value()
        request = rpc.TxnRequest(
            compare=[_compare(one, expected)],
            success=[
                rpc.RequestOp(request_put=rpc.PutRequest(key=one.encode(), value=first.encode())),
                rpc.RequestOp(request_put=rpc.PutRequest(key=two.encode(), value=second.encode())),
                rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=three.encode(), prev_kv=True)),
            ],
            failure=[rpc.RequestOp(request_range=_range_of(group))],
        )

        def told(response: rpc.TxnResponse) -> Result:
            outcome = {"revision": response.header.revision, "succeeded": response.succeeded}
            if not response.succeeded:
                items = [self._item(kv) for kv in response.responses[0].response_range.kvs]
                return outcome | {"responses": [{"items": items}]}
            group.seen |= {one: first, two: second, three: None}
            deletion = self._deletion(response.responses[2].response_delete_range)
            return outcome | {"responses": [{}, {}, deletion]}

        then = [
            {"op": "put", "args": {"key": one, "value": first}},
            {"op": "put", "args": {"key": two, "value": second}},
            {"op": "delete", "args": {"key": three}},
        ]
        otherwise = [{"op": "range", "args": dict(group.span)}]
        args = {"when": [[one, expected]], "then": then, "otherwise": otherwise}
        return Asked("txn", args, group, told, rpc.TxnResponse, command=store_pb2.Command(txn=request))

    def _deletion(self, response: rpc.DeleteRangeResponse) -> Result:
        return {"deleted": response.deleted, "previous": [self._item(kv) for kv in response.prev_kvs]}

    def _item(self, kv: Any) -> list[Any]:
        self._read_told(kv.key, kv.mod_revision, kv.value)
        return [kv.key.decode(), kv.value.decode(), kv.mod_revision]

    def _value(self) -> str:
        self._values += 1
        return f"v{self._values}"


def answer_to(request: rpc.RangeRequest) -> Callable[[StateMachine], rpc.RangeResponse]:
    return lambda machine: machine.range(request)


ALL_PROBES = rpc.RangeRequest(key=b"probe", range_end=b"probf")


def compaction(revision: int) -> store_pb2.Command:
    return store_pb2.Command(compaction=rpc.CompactionRequest(revision=revision))


def _range_of(group: Group) -> rpc.RangeRequest:
    return rpc.RangeRequest(key=group.span["key"].encode(), range_end=group.span["end"].encode())


def _compare(key: str, expected: str | None) -> rpc.Compare:
    if expected is None:
        return rpc.Compare(key=key.encode(), target=rpc.Compare.VERSION, result=rpc.Compare.EQUAL, version=0)
    return rpc.Compare(key=key.encode(), target=rpc.Compare.VALUE, result=rpc.Compare.EQUAL, value=expected.encode())
