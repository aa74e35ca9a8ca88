"""A state that is not what was written is found before it is used, and a damaged value is not handed out."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from raftkv.errors import CorruptionError, DataDirError
from raftkv.mvcc.checking import check_state
from raftkv.mvcc.environment import DATA_FILE
from raftkv.mvcc.pages import PageFile
from raftkv.statemachine import StateMachine, verify_snapshot
from tests.lease.support import grant, revoke
from tests.statemachine.support import apply, compact, delete, get, open_machine, put

Change = Callable[[lmdb.Transaction, dict[str, object]], object]


def written(path: Path, *, seed: int = 3, rounds: int = 40) -> StateMachine:
    """A state with branches, large values, a key with a tree of versions, deletions and compactions."""
    rng = random.Random(seed)
    machine = open_machine(path, compact_records=20)
    for _ in range(rounds):
        size = rng.choice((10, 300, 5000))
        apply(machine, *(put(b"k%04d" % rng.randrange(900), rng.randbytes(size)) for _ in range(20)))
        apply(
            machine,
            put(b"hot", rng.randbytes(8)),
            put(b"hot", b""),
            put(b"hot", b"."),
            delete(b"k", b"k%d" % rng.randrange(3)),
        )
        lease = rng.randrange(1, 2**63)
        count = rng.choice((0, 1, 10, 150))
        held = [put(b"held/%x/%03d" % (lease, number), b"", lease=lease) for number in range(count)]
        apply(machine, grant(lease), *held)
        if rng.random() < 0.3:
            apply(machine, revoke(lease))
        if rng.random() < 0.2:
            apply(machine, compact(rng.randrange(max(1, machine.compact_revision + 1), machine.revision)))
        machine.compact_some()
        if rng.random() < 0.5:
            machine.commit()
    return machine


def change_behind_its_back(path: Path, change: Change) -> None:
    """As LMDB would write it: its pages are right, what is in them is not ours."""
    with lmdb.open(str(path), max_dbs=8, map_size=1 << 28) as environment:
        names = ("revisions", "index", "meta", "leases", "lease_deadlines")
        databases = {name: environment.open_db(name.encode()) for name in names}
        databases["lease_keys"] = environment.open_db(b"lease_keys", dupsort=True)
        with environment.begin(write=True) as txn:
            change(txn, databases)


def first(txn: lmdb.Transaction, database: object) -> tuple[bytes, bytes]:
    with txn.cursor(database) as cursor:
        assert cursor.first()
        return cursor.item()


@pytest.mark.parametrize("seed", range(4))
def test_every_healthy_state_passes(tmp_path: Path, seed: int) -> None:
    for _ in range(3):  # Opened again and again.
        written(tmp_path, seed=seed).close()

        check_state(tmp_path / DATA_FILE)


def test_a_snapshot_of_a_healthy_state_passes(tmp_path: Path) -> None:
    machine = written(tmp_path / "state")
    machine.snapshot_to(tmp_path / "snapshot")
    machine.close()

    check_state(tmp_path / "snapshot")


def test_every_entry_of_every_tree_is_met(tmp_path: Path) -> None:
    written(tmp_path).close()
    with lmdb.open(str(tmp_path), max_dbs=8, readonly=True) as environment, PageFile(tmp_path / DATA_FILE) as file:
        for name, tree in file.subtrees().items():
            database = environment.open_db(name, create=False)
            with environment.begin() as txn, txn.cursor(database) as cursor:
                assert [pair for leaf in file.leaves(tree) for pair in leaf] == list(cursor), name


def test_a_flipped_bit_of_a_page_is_found_or_changes_nothing(tmp_path: Path) -> None:
    written(tmp_path, rounds=12).close()
    data = tmp_path / DATA_FILE
    with PageFile(data) as file:
        used_bytes = (file.meta.last_page + 1) * file.meta.page_bytes
    machine = open_machine(tmp_path)
    expected = machine.hash_kv()
    machine.close()
    rng = random.Random(5)
    found = 0
    for _ in range(300):
        offset, bit = rng.randrange(used_bytes), 1 << rng.randrange(8)
        flip(data, offset, bit)
        try:
            machine = open_machine(tmp_path)
        except CorruptionError:
            found += 1
        else:
            assert machine.hash_kv() == expected, (offset, bit)
            machine.close()
        flip(data, offset, bit)
    assert found > 50


def flip(data: Path, offset: int, bit: int) -> None:
    with data.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bit]))


def lose_an_entry(txn: lmdb.Transaction, databases: dict[str, object]) -> object:
    key, packed = first(txn, databases["index"])
    return txn.delete(packed[:16], db=databases["revisions"]) and txn.delete(key, packed, db=databases["index"])


def lose_a_value(txn: lmdb.Transaction, databases: dict[str, object]) -> object:
    return txn.delete(first(txn, databases["revisions"])[0], db=databases["revisions"])


def exchange_values(txn: lmdb.Transaction, databases: dict[str, object]) -> None:
    with txn.cursor(databases["revisions"]) as cursor:
        (one, its), (other, others) = [pair for pair, _ in zip(cursor, range(2), strict=False)]
    txn.put(one, others, db=databases["revisions"])
    txn.put(other, its, db=databases["revisions"])


def rename_a_key(txn: lmdb.Transaction, databases: dict[str, object]) -> None:
    key, packed = first(txn, databases["index"])
    txn.delete(key, packed, db=databases["index"])
    txn.put(key + b"!", packed, db=databases["index"])


def forget_the_counters(txn: lmdb.Transaction, databases: dict[str, object]) -> object:
    return txn.delete(b"mvcc", db=databases["meta"])


def change_a_record(txn: lmdb.Transaction, databases: dict[str, object]) -> object:
    return txn.put(b"cluster", struct.pack(">Q", 7), db=databases["meta"])


def lose_a_lease(txn: lmdb.Transaction, databases: dict[str, object]) -> object:
    return txn.delete(first(txn, databases["leases"])[0], db=databases["leases"])


def lose_a_deadline(txn: lmdb.Transaction, databases: dict[str, object]) -> object:
    return txn.delete(first(txn, databases["lease_deadlines"])[0], db=databases["lease_deadlines"])


def move_a_deadline(txn: lmdb.Transaction, databases: dict[str, object]) -> object:
    key, packed = first(txn, databases["leases"])
    return txn.put(key, packed[:8] + bytes(8), db=databases["leases"])


def take_a_key_off_its_lease(txn: lmdb.Transaction, databases: dict[str, object]) -> object:
    lease, key = first(txn, databases["lease_keys"])
    return txn.delete(lease, key, db=databases["lease_keys"])


@pytest.mark.parametrize(
    "change",
    [
        lose_an_entry,
        lose_a_value,
        exchange_values,
        rename_a_key,
        forget_the_counters,
        change_a_record,
        lose_a_lease,
        lose_a_deadline,
        move_a_deadline,
        take_a_key_off_its_lease,
    ],
    ids=lambda change: change.__name__,
)
def test_pages_in_order_with_other_contents_are_found(tmp_path: Path, change: Change) -> None:
    """What an older page, still in the file, would look like if it took the place of its successor."""
    written(tmp_path).close()
    change_behind_its_back(tmp_path, change)

    with pytest.raises(CorruptionError, match=str(tmp_path)):
        open_machine(tmp_path)


def test_the_leftover_of_a_first_commit_that_the_disk_refused_is_not_looked_at(tmp_path: Path) -> None:
    """LMDB then writes meta page 1 again with the old transaction number, 0, but with the new trees."""
    with lmdb.open(str(tmp_path)):
        pass
    data = tmp_path / DATA_FILE
    page_bytes = data.stat().st_size // 2
    with data.open("r+b") as file:
        file.seek(
            page_bytes + 16 + 24 + 48 + 40
        )  # Behind headers, fixed fields and the free tree: the main tree's root.
        file.write(struct.pack("<Q", 2))

    check_state(data)
    open_machine(tmp_path).close()


def test_a_value_damaged_while_the_store_is_open_is_neither_read_nor_hashed(tmp_path: Path) -> None:
    machine = open_machine(tmp_path)
    apply(machine, put(b"k", b"a value that is easy to find"), put(b"other", b"fine"))
    machine.commit()
    data = (tmp_path / DATA_FILE).read_bytes()
    flip(tmp_path / DATA_FILE, data.index(b"easy to find"), 1)

    assert get(machine, b"other") == b"fine"
    for read in (lambda: get(machine, b"k"), machine.hash_kv):
        with pytest.raises(CorruptionError, match="damaged"):
            read()
    machine.close(commit=False)


def test_a_snapshot_of_a_state_damaged_while_it_was_open_is_not_believed(tmp_path: Path) -> None:
    """Sealed by its maker, and still refused by who receives it."""
    machine = open_machine(tmp_path / "state")
    apply(machine, put(b"k", b"a value that is easy to find"))
    machine.commit()
    data = (tmp_path / "state" / DATA_FILE).read_bytes()
    flip(tmp_path / "state" / DATA_FILE, data.index(b"easy to find"), 1)
    machine.snapshot_to(tmp_path / "snapshot")
    machine.close(commit=False)

    with pytest.raises(CorruptionError, match="values"):
        verify_snapshot(tmp_path / "snapshot")


@pytest.mark.parametrize(("size", "lacking"), [(32, "checksums"), (44, "leases")])
def test_a_state_of_an_older_format_is_refused_as_such(tmp_path: Path, size: int, lacking: str) -> None:
    """Known by the size of its counters."""
    machine = open_machine(tmp_path)
    machine.close()
    change_behind_its_back(tmp_path, lambda txn, databases: txn.put(b"mvcc", bytes(size), db=databases["meta"]))

    with pytest.raises(DataDirError, match=f"before 0.1.0, without {lacking}"):
        open_machine(tmp_path)
