"""etcd itself is the oracle: random operations go to a real etcd and to our store, and the answers must be equal.

Skipped by name where etcd is not installed. Ids, terms and times are left out: `header.revision` alone is compared.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from raftkv.errors import RequestError
from raftkv.mvcc import commands, validate
from raftkv.mvcc.compaction import compact_some
from raftkv.mvcc.hashing import hash_now
from raftkv.mvcc.reading import read_range, read_range_slices
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2 as rpc

KEYS = [b"a", b"b", b"c", b"aa", b"ab", b"b\0", b"\0", b"\xff", b"\xff\xff", b"k1", b"k2", b"k3", b"k4"]
ENDS = [b"", b"", b"\0", b"b", b"c", b"k3", b"l", b"\xff", b"a", b"k" + b"\xff" * 600]
SECONDS = 8.0

RangeRequest = rpc.RangeRequest


class Oracle:
    """A real etcd."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._calls: dict[str, Any] = {}

    def call(self, method: str, request: Any, response: Any) -> Any:
        """The answer, or the error as (code, text)."""
        if method not in self._calls:
            self._calls[method] = self._channel.unary_unary(
                f"/etcdserverpb.{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )
        try:
            answer = self._calls[method](request, timeout=5)
        except grpc.RpcError as error:
            return error.code().value[0], error.details()
        return only_revisions(answer)


class Ours:
    """Our store, called as the server will call it: checks first, then the command."""

    def __init__(self, path: Path) -> None:
        self.store = Store(path, map_bytes=1 << 26)

    def call(self, method: str, request: Any, _response: Any) -> Any:
        try:
            return self._answer(method, request)
        except RequestError as error:
            return int(error.code), error.message

    def _answer(self, method: str, request: Any) -> Any:
        match method:
            case "KV/Range":
                validate.check_range(request)
                answer = rpc.RangeResponse.FromString(read_range(self.store, request))
                sliced = b"".join(read_range_slices(self.store, request, slice_keys=2))
                assert rpc.RangeResponse.FromString(sliced) == answer
                return answer
            case "KV/Put":
                validate.check_put(request)
                return commands.put(self.store, request, wanted=True)
            case "KV/DeleteRange":
                validate.check_delete_range(request)
                return commands.delete_range(self.store, request, wanted=True)
            case "KV/Txn":
                validate.check_txn(request)
                return commands.txn(self.store, request, wanted=True)
            case "KV/Compact":
                return commands.compact(self.store, request, wanted=True)
            case "Maintenance/HashKV":
                found = hash_now(self.store, request.revision)
                header = rpc.ResponseHeader(revision=self.store.revision)
                return rpc.HashKVResponse(header=header, compact_revision=found.compact_revision)
        raise AssertionError(method)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    etcd = shutil.which("etcd")
    if etcd is None:
        pytest.skip("no etcd on the PATH to compare with")
    client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    directory = tmp_path_factory.mktemp("etcd")
    command = [etcd, "--name=oracle", f"--data-dir={directory}/data", f"--listen-client-urls={client}"]
    command += [f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}", "--log-level=error"]
    command += [f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=oracle={peer}", "--logger=zap"]
    with (directory / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with grpc.insecure_channel(client.removeprefix("http://")) as channel:
                grpc.channel_ready_future(channel).result(timeout=10)
                yield Oracle(channel)
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def only_revisions(message: Any) -> Any:
    """Clear what names a cluster, a member or a term, and the hash, which is of another file format."""
    header = message.header
    for field in ("cluster_id", "member_id", "raft_term"):
        header.ClearField(field)
    if isinstance(message, rpc.HashKVResponse):
        message.ClearField("hash")
    return message


class Operations:
    """Random requests, many of them odd. No unknown sort target: etcd 3.4 crashes on it (3.5 refuses it, as we do)."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.revision = 1

    def key(self) -> bytes:
        return self.random.choice(KEYS) if self.random.random() < 0.99 else b""

    def value(self) -> bytes:
        return self.random.choice([b"", b"x", b"y", b"zz", b"\0" * 200])

    def some_revision(self) -> int:
        return self.random.choice(
            [0, 0, 0, 0, -1, -7, 1, self.revision, self.revision - self.random.randrange(30), self.revision + 1, 2**62]
        )

    def bound(self) -> int:
        return max(0, self.some_revision()) if self.random.random() < 0.15 else 0

    def range(self) -> RangeRequest:
        choose = self.random
        return RangeRequest(
            key=self.key(),
            range_end=choose.choice(ENDS),
            limit=choose.choice([0, 0, 0, 1, 2, 3, 5, -1, 2**62]),
            revision=self.some_revision() if choose.random() < 0.4 else 0,
            sort_order=choose.choice([0, 0, 1, 2]),
            sort_target=choose.choice([0, 0, 1, 2, 3, 4]),
            serializable=choose.random() < 0.5,
            keys_only=choose.random() < 0.2,
            count_only=choose.random() < 0.1,
            min_mod_revision=self.bound(),
            max_mod_revision=self.bound(),
            min_create_revision=self.bound(),
            max_create_revision=self.bound(),
        )

    def put(self) -> rpc.PutRequest:
        choose = self.random
        ignore_value = choose.random() < 0.1
        return rpc.PutRequest(
            key=self.key(),
            value=b"" if ignore_value and choose.random() < 0.8 else self.value(),
            lease=77 if choose.random() < 0.03 else 0,
            prev_kv=choose.random() < 0.3,
            ignore_value=ignore_value,
            ignore_lease=choose.random() < 0.1,
        )

    def delete(self) -> rpc.DeleteRangeRequest:
        end = self.random.choice(ENDS) if self.random.random() < 0.4 else b""
        return rpc.DeleteRangeRequest(key=self.key(), range_end=end, prev_kv=self.random.random() < 0.5)

    def compare(self) -> rpc.Compare:
        choose = self.random
        compare = rpc.Compare(
            result=choose.randrange(4) if choose.random() < 0.98 else 9,
            target=choose.randrange(5) if choose.random() < 0.98 else 9,
            key=self.key(),
            range_end=choose.choice(ENDS) if choose.random() < 0.3 else b"",
        )
        field = choose.choice(["version", "create_revision", "mod_revision", "value", "lease", ""])
        if choose.random() < 0.9:
            field = ["version", "create_revision", "mod_revision", "value", "lease"][compare.target % 5]
        if field == "value":
            compare.value = self.value()
        elif field:
            setattr(compare, field, choose.choice([0, 1, 2, self.revision]))
        return compare

    def operation(self, depth: int) -> rpc.RequestOp:
        kind = self.random.random()
        if kind < 0.3:
            return rpc.RequestOp(request_range=self.range())
        if kind < 0.65:
            return rpc.RequestOp(request_put=self.put())
        if kind < 0.8:
            return rpc.RequestOp(request_delete_range=self.delete())
        if kind < 0.99 and depth < 3:
            return rpc.RequestOp(request_txn=self.txn(depth + 1))
        return rpc.RequestOp() if kind > 0.99 else rpc.RequestOp(request_put=self.put())

    def txn(self, depth: int = 0) -> rpc.TxnRequest:
        def some() -> int:
            return self.random.choice([0, 1, 1, 2, 3])

        return rpc.TxnRequest(
            compare=[self.compare() for _ in range(self.random.choice([0, 1, 2]))],
            success=[self.operation(depth) for _ in range(some())],
            failure=[self.operation(depth) for _ in range(some())],
        )

    def next(self) -> tuple[str, Any, Any]:
        kind = self.random.random()
        if kind < 0.33:
            return "KV/Put", self.put(), rpc.PutResponse
        if kind < 0.6:
            return "KV/Range", self.range(), RangeResponse
        if kind < 0.7:
            return "KV/DeleteRange", self.delete(), rpc.DeleteRangeResponse
        if kind < 0.96:
            txn = self.txn()
            while crashes_etcd(txn):
                txn = self.txn()
            return "KV/Txn", txn, rpc.TxnResponse
        if kind < 0.98:
            return "Maintenance/HashKV", rpc.HashKVRequest(revision=self.some_revision()), rpc.HashKVResponse
        return "KV/Compact", rpc.CompactionRequest(revision=self.some_revision()), rpc.CompactionResponse


RangeResponse = rpc.RangeResponse


def crashes_etcd(txn: rpc.TxnRequest) -> bool:
    """etcd's check lets a delete take a key away that a later put of the same txn wants to keep the value of."""
    operations = list(flat(txn))
    has_delete = any(one.WhichOneof("request") == "request_delete_range" for one in operations)
    return has_delete and any(one.request_put.ignore_value or one.request_put.ignore_lease for one in operations)


def flat(txn: rpc.TxnRequest) -> Iterator[rpc.RequestOp]:
    for operation in (*txn.success, *txn.failure):
        if operation.WhichOneof("request") == "request_txn":
            yield from flat(operation.request_txn)
        else:
            yield operation


def sorted_answers(request: Any, answer: Any) -> Any:
    """etcd's sort is not stable: among equals of the sort target, any order will do, and any of them may be cut off."""
    if isinstance(answer, rpc.RangeResponse):
        if request.sort_target == RangeRequest.KEY:
            return answer
        attribute = {1: "version", 2: "create_revision", 3: "mod_revision", 4: "value"}.get(request.sort_target)
        if attribute is None:
            return answer
        values = [getattr(kv, attribute) for kv in answer.kvs]
        is_cut = 0 < request.limit < answer.count
        keys = [] if is_cut else sorted(kv.SerializeToString() for kv in answer.kvs)
        return answer.header, answer.count, answer.more, [] if request.keys_only else values, len(values), keys
    if isinstance(answer, rpc.TxnResponse):
        chosen = request.success if answer.succeeded else request.failure
        pairs = zip(chosen, answer.responses, strict=True)
        return answer.header, answer.succeeded, [sorted_operation(asked, given) for asked, given in pairs]
    return answer


def sorted_operation(asked: rpc.RequestOp, given: rpc.ResponseOp) -> Any:
    kind = asked.WhichOneof("request")
    if kind is None:
        return given
    request = getattr(asked, kind)
    answer = getattr(given, kind.replace("request_", "response_"))
    return given.WhichOneof("response"), sorted_answers(request, answer)


def test_random_operations_are_answered_as_etcd_answers_them(oracle: Oracle, tmp_path: Path) -> None:
    """One long history with compactions, each answer compared; physical compaction goes on meanwhile."""
    ours = Ours(tmp_path)
    seed = random.randrange(10**6)
    operations = Operations(seed)
    deadline = time.monotonic() + SECONDS
    count = 0
    while time.monotonic() < deadline:
        method, request, response = operations.next()
        theirs = oracle.call(method, request, response)
        mine = ours.call(method, request, response)
        assert sorted_answers(request, mine) == sorted_answers(request, theirs), (
            f"seed {seed}, operation {count}: {method} {request!r}\nours: {mine!r}\netcd: {theirs!r}"
        )
        operations.revision = ours.store.revision
        count += 1
        if count % 40 == 0:
            compact_some(ours.store, records=13)
        if count % 100 == 0:
            ours.store.commit()
    ours.store.close()
    assert count > 500, f"only {count} operations in {SECONDS} s"
