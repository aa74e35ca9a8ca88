"""The whole API against a real etcd, through both faces."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import raftkv


@pytest.fixture
def kv(etcd: str) -> Iterator[raftkv.Client]:
    with raftkv.connect(etcd) as client:
        client.delete(prefix="")
        yield client


def test_a_put_answers_with_its_revision_and_on_request_what_it_replaced(kv: raftkv.Client) -> None:
    first = kv.put("k", "one")
    second = kv.put("k", b"two", previous=True)

    assert second.revision == first.revision + 1
    assert first.previous is None
    assert second.previous is not None
    assert second.previous.text == "one"


def test_a_get_returns_the_item_or_none(kv: raftkv.Client) -> None:
    put = kv.put("conf/ü", '{"colour": "blue"}')

    item = kv.get("conf/ü")

    assert item is not None
    assert (item.key, item.name, item.json()) == ("conf/ü".encode(), "conf/ü", {"colour": "blue"})
    assert (item.create_revision, item.mod_revision, item.version, item.lease) == (put.revision, put.revision, 1, 0)
    assert kv.get("conf/none") is None


def test_a_get_at_a_revision_sees_the_past(kv: raftkv.Client) -> None:
    old = kv.put("k", "old").revision
    kv.put("k", "new")

    item = kv.get("k", revision=old)

    assert item is not None
    assert item.text == "old"
    with pytest.raises(raftkv.FutureRevision):
        kv.get("k", revision=old + 1_000_000)


def test_a_range_is_a_snapshot_of_the_revision_of_its_first_page(kv: raftkv.Client) -> None:
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda i: kv.put(f"r/{i:04}", "v"), range(700)))

    pages = kv.range(prefix="r/")
    seen = [next(pages).name]
    kv.put("r/0001x", "written while the range is read")
    kv.delete("r/0699")
    seen += [item.name for item in pages]

    assert seen == [f"r/{i:04}" for i in range(700)]


def test_a_range_takes_limits_orders_and_bounds(kv: raftkv.Client) -> None:
    for key in ("a", "b", "c", "d"):
        kv.put(key, key * 2)
    kv.put("b", "zz")

    def names(**options: object) -> str:
        return "".join(item.name for item in kv.range(**options))  # type: ignore[arg-type]

    assert names() == "abcd"
    assert names(limit=2) == "ab"
    assert names(start="b", end="d") == "bc"
    assert names(start="c") == "cd"
    assert names(end="c") == "ab"
    assert names(descending=True) == "dcba"
    assert names(sort="mod_revision", descending=True, limit=2) == "bd"
    assert names(sort="value") == "acdb"
    assert [item.value for item in kv.range(keys_only=True)] == [b""] * 4
    assert kv.count(prefix="") == 4
    assert kv.count("b", "d") == 2


def test_delete_removes_a_key_a_range_or_a_prefix(kv: raftkv.Client) -> None:
    for key in ("a", "b/1", "b/2", "c", "d"):
        kv.put(key, "v")

    assert kv.delete("a").deleted == 1
    assert kv.delete("a").deleted == 0
    both = kv.delete(prefix="b/", previous=True)
    assert (both.deleted, [item.name for item in both.previous]) == (2, ["b/1", "b/2"])
    assert kv.delete("c", end="d").deleted == 1
    assert [item.name for item in kv.range()] == ["d"]


def test_a_transaction_does_one_branch_atomically(kv: raftkv.Client) -> None:
    kv.put("mode", "blue")

    def switch() -> raftkv.TxnResult:
        return (
            kv.txn()
            .when(kv["mode"].value == b"blue", kv["lock"].missing)
            .then(kv.op.put("mode", "green", previous=True), kv.op.get("mode"), kv.op.delete("none"))
            .otherwise(kv.op.get("mode"), kv.op.range(prefix="none"))
            .commit()
        )

    done, refused = switch(), switch()

    assert done.succeeded
    put, get, delete = done.responses
    assert isinstance(put, raftkv.PutResult)
    assert isinstance(get, raftkv.RangeResult)
    assert isinstance(delete, raftkv.DeleteResult)
    assert put.previous is not None
    assert get.first is not None
    assert (put.previous.text, get.first.text, delete.deleted) == ("blue", "green", 0)
    assert not refused.succeeded
    assert [len(answer.items) for answer in refused.responses if isinstance(answer, raftkv.RangeResult)] == [1, 0]
    assert refused.revision == done.revision


def test_transactions_nest(kv: raftkv.Client) -> None:
    inner = kv.txn().when(kv["x"].exists).then(kv.op.put("y", "1")).otherwise(kv.op.put("z", "1"))

    result = kv.txn().then(kv.op.txn(inner)).commit()

    (answer,) = result.responses
    assert isinstance(answer, raftkv.TxnResult)
    assert (answer.succeeded, answer.revision) == (False, result.revision)
    assert kv.get("z") is not None


def test_compaction_drops_history(kv: raftkv.Client) -> None:
    old = kv.put("k", "1").revision
    new = kv.put("k", "2").revision

    assert kv.compact(new, physical=True).revision == new

    with pytest.raises(raftkv.Compacted):
        kv.get("k", revision=old)
    with pytest.raises(raftkv.Compacted):
        kv.compact(old)


def test_refusals_are_typed_and_say_that_nothing_was_applied(kv: raftkv.Client) -> None:
    with pytest.raises(raftkv.InvalidArgument, match="key is not provided") as empty:
        kv.put("", "v")
    with pytest.raises(raftkv.NotFound, match="lease not found") as lease:
        kv.put("k", "v", lease=123)
    with pytest.raises(raftkv.InvalidArgument, match="duplicate key") as duplicate:
        kv.txn().then(kv.op.put("k", "1"), kv.op.put("k", "2")).commit()
    with pytest.raises(raftkv.InvalidArgument, match="request is too large"):
        kv.put("k", b"x" * 1_800_000)

    assert {empty.value.outcome, lease.value.outcome, duplicate.value.outcome} == {raftkv.Outcome.NOT_APPLIED}
    assert kv.get("k") is None


def test_a_value_larger_than_a_batch_goes_through(kv: raftkv.Client) -> None:
    kv.put("k", b"x" * 1_400_000)

    item = kv.get("k")
    assert item is not None
    assert len(item.value) == 1_400_000


def test_members_status_and_hash_tell_about_the_cluster(kv: raftkv.Client, etcd: str) -> None:
    (member,) = kv.members()
    status = kv.status(etcd)

    assert member.client_urls == (etcd,)
    assert status.member_id == member.id
    assert status.is_leader
    assert status == kv.status() or status.raft_index <= kv.status().raft_index
    assert kv.hash_kv() == kv.hash_kv(endpoint=etcd)
    assert kv.hash_kv().revision == status.revision


async def test_the_async_face_has_the_same_names_and_results(etcd: str) -> None:
    async with raftkv.aio.connect(etcd) as kv:
        await kv.delete(prefix="")
        put = await kv.put("a", "1")
        item = await kv.get("a")
        assert item == raftkv.KeyValue(b"a", b"1", put.revision, put.revision, 1)
        assert [item async for item in kv.range(prefix="a")] == [item]
        assert await kv.count() == 1

        txn = await kv.txn().when(kv["a"].version == 1).then(kv.op.put("b", "2")).commit()
        assert txn.succeeded
        assert (await kv.compact(txn.revision)).revision == txn.revision
        assert len(await kv.members()) == 1
        assert (await kv.status(etcd)).version == (await kv.status()).version
        assert (await kv.hash_kv()).revision == txn.revision
        assert (await kv.delete("a", previous=True)).previous == (item,)
        with pytest.raises(raftkv.NotFound):
            await kv.put("k", "v", lease=123)
