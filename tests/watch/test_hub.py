"""The hub: everything once, in order, a revision in one response, whatever is slow, parked, behind or compacted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from raftkv.mvcc.compaction import compact_some
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2
from raftkv.watch import WatchLimits
from raftkv.watch.group import WatcherGroup
from raftkv.watch.watcher import Watcher
from tests.watch.support import Client, Driver

SMALL = WatchLimits(
    outbox_bytes=400,
    outboxes_bytes=1000,
    slice_records=4,
    slice_bytes=2000,
    deliveries_per_step=3,
    events_gathered=3,
    fragment_bytes=100,
)


def test_a_live_watch_hears_of_its_keys_and_no_others(driver: Driver) -> None:
    client = driver.open()
    driver.create(client, b"a")
    driver.create(client, b"b", b"d")

    for key in (b"a", b"b", b"c", b"d", b"bb"):
        driver.put(key)
    driver.settle(client)

    assert client.events(0) == [(2, b"a", True)]
    assert client.events(1) == [(3, b"b", True), (4, b"c", True), (6, b"bb", True)]


def test_a_watch_from_an_old_revision_catches_up_and_goes_on_live(store: Store) -> None:
    driver = Driver(store, SMALL)
    for number in range(20):
        driver.put(b"k%d" % (number % 3))
    client = driver.open()
    driver.create(client, b"k1", start=5)
    driver.settle(client)
    driver.put(b"k1")
    driver.settle(client)

    assert client.events(0) == driver.expected(b"k1", None, 5)
    assert client.outbox.behind_count == 0


def test_a_future_revision_is_waited_for(driver: Driver) -> None:
    client = driver.open()
    driver.create(client, b"a", start=4)
    for _ in range(4):
        driver.put(b"a")
    driver.settle(client)

    assert client.events(0) == [(4, b"a", True), (5, b"a", True)]


def test_all_events_of_a_revision_are_in_one_response(store: Store) -> None:
    driver = Driver(store, SMALL)
    client = driver.open()
    driver.create(client, b"a", b"z")
    driver.put(*(b"k%02d" % number for number in range(50)))
    driver.settle(client)
    driver.create(client, b"a", b"z", start=2)
    driver.settle(client)

    assert [len(response.events) for response in client.read if response.events] == [50, 50]


def test_fragments_are_marked_but_for_the_last(store: Store) -> None:
    driver = Driver(store, SMALL)
    client = driver.open()
    driver.create(client, b"a", b"z", fragment=True)
    driver.put(*(b"k%02d" % number for number in range(10)))
    driver.settle(client)

    parts = [response for response in client.read if response.events]
    assert [part.fragment for part in parts] == [True] * (len(parts) - 1) + [False]
    assert len(parts) == 3
    assert all(part.ByteSize() < SMALL.fragment_bytes for part in parts)
    assert client.events(0) == driver.expected(b"a", b"z", 0)


def test_the_header_of_created_is_where_the_watch_begins(driver: Driver) -> None:
    driver.put(b"a")
    client = driver.open()
    driver.create(client, b"a")  # The change has not reached the hub yet.
    driver.put(b"a")
    driver.settle(client)

    assert (client.read[0].created, client.read[0].header.revision) == (True, 2)
    assert client.events(0) == [(3, b"a", True)]


def test_previous_values_come_even_if_nobody_had_asked_for_them_when_the_change_was_read(driver: Driver) -> None:
    client = driver.open()
    driver.create(client, b"a")
    driver.put(b"a", value=b"1")
    driver.put(b"a", value=b"2")
    driver.read_live()
    driver.create(client, b"a", start=3, prev_kv=True)
    driver.settle(client)

    (event,) = [event for response in client.read if response.watch_id == 1 for event in response.events]
    assert event.prev_kv.value == b"1"


def test_filters_keep_puts_or_deletions_away(driver: Driver) -> None:
    client = driver.open()
    create = rpc_pb2.WatchCreateRequest
    driver.create(client, b"a", filters=[create.NOPUT])
    driver.create(client, b"a", filters=[create.NODELETE])
    driver.put(b"a")
    driver.delete(b"a")
    driver.settle(client)

    assert (client.events(0), client.events(1)) == ([(3, b"a", False)], [(2, b"a", True)])


def test_a_compacted_start_is_canceled_with_the_compact_revision(driver: Driver) -> None:
    for _ in range(5):
        driver.put(b"a")
    driver.compact(4)
    client = driver.open()
    driver.create(client, b"a", start=3)
    driver.settle(client)

    created, canceled = client.read
    assert (created.created, canceled.canceled, canceled.compact_revision) == (True, True, 4)
    assert driver.hub.watch_count == 0


def test_a_slow_watch_whose_history_is_compacted_is_told_so(store: Store) -> None:
    driver = Driver(store, SMALL)
    client = driver.open()
    driver.create(client, b"a")
    for _ in range(30):
        driver.put(b"a", value=b"x" * 50)
        driver.run()
    driver.compact(31)
    driver.settle(client)

    last = client.read[-1]
    assert (last.canceled, last.compact_revision) == (True, 31)
    seen = client.events(0)
    assert seen == driver.expected(b"a", None, 0)[: len(seen)], "what came before is a prefix without a gap"


def test_a_deletion_at_the_compact_revision_is_not_passed_over_in_silence(store: Store) -> None:
    """Compaction takes a tombstone at its revision away: a watch that had not got it cannot go on as if nothing was."""
    driver = Driver(store, SMALL)
    client = driver.open()
    driver.create(client, b"a")
    driver.put(b"a", value=b"x" * 500)
    driver.run()
    driver.delete(b"a")
    driver.run()
    assert client.outbox.parked
    driver.compact(3)
    driver.settle(client)

    assert client.events(0) == [(2, b"a", True)]
    assert (client.read[-1].canceled, client.read[-1].compact_revision) == (True, 3)


def test_live_watches_over_which_history_jumps_are_told_so(driver: Driver) -> None:
    """An installed snapshot may hold nothing of the revisions between what was given out and its compact revision."""
    client = driver.open()
    driver.create(client, b"a")
    driver.create(client, b"a", start=9)
    for _ in range(5):
        driver.put(b"a")
    driver.compact(6, is_installed=True)
    driver.settle(client)
    for _ in range(4):
        driver.put(b"a")
    driver.settle(client)

    assert [(r.watch_id, r.compact_revision) for r in client.read if r.canceled] == [(0, 6)]
    assert client.events(1) == [(9, b"a", True), (10, b"a", True)]


def test_a_compaction_takes_nothing_from_live_watches_that_are_about_to_be_told(driver: Driver) -> None:
    """Several writes and a compaction may be applied in one go, and be removed while earlier ones are given out."""
    client = driver.open()
    driver.create(client, b"a", prev_kv=True)
    driver.run()
    for number in range(5):
        driver.put(b"a", value=b"%d" % number)
        if number == 1:
            driver.read_live()
    driver.compact(6)
    assert driver.store.removed_revision < 4
    driver.settle(client)
    assert not compact_some(driver.store, records=100)

    assert client.events(0) == driver.log
    events = [event for response in client.read for event in response.events]
    assert [event.prev_kv.value for event in events] == [b"", b"0", b"1", b"2", b"3"]
    assert driver.store.removed_revision == 6


def test_a_client_that_does_not_read_holds_a_bounded_number_of_bytes(store: Store) -> None:
    driver = Driver(store, SMALL)
    silent, reading = driver.open("silent"), driver.open("reading")
    for client in (silent, reading):
        driver.create(client, b"a", b"z")
    for number in range(200):
        driver.put(b"k%d" % number, value=b"x" * 40)
        driver.run()
        driver.take(reading)
        assert silent.outbox.bytes < 2 * SMALL.outbox_bytes
    driver.settle(reading)

    assert reading.events(0) == driver.log
    driver.settle(silent)
    assert silent.events(0) == driver.log
    assert driver.budget.bytes == 0


def test_many_clients_that_do_not_read_share_one_budget(store: Store) -> None:
    driver = Driver(store, SMALL)
    clients = [driver.open(f"c{number}") for number in range(20)]
    for client in clients:
        driver.create(client, b"a")
        client.take()
    for _ in range(50):
        driver.put(b"a", value=b"x" * 20)
        driver.run()

    assert driver.budget.bytes < SMALL.outboxes_bytes + 20 * 100
    driver.settle(*clients)
    assert all(client.events(0) == driver.log for client in clients)


def test_events_of_a_lagging_watch_are_merged_into_larger_responses(driver: Driver) -> None:
    client = driver.open()
    driver.create(client, b"a")
    for _ in range(100):
        driver.put(b"a")
        driver.run()
    driver.settle(client)

    assert len([response for response in client.read if response.events]) == 1
    assert client.events(0) == driver.log


def test_progress_that_was_asked_for_comes_when_everything_before_it_has(store: Store) -> None:
    driver = Driver(store, SMALL)
    for _ in range(20):
        driver.put(b"a")
    client = driver.open()
    driver.create(client, b"a", start=1)
    driver.hub.request_progress(client.outbox, store.revision)
    driver.settle(client)

    (at,) = [position for position, response in enumerate(client.read) if response.watch_id == -1]
    assert client.read[at].header.revision == 21
    assert sum(len(response.events) for response in client.read[:at]) == 20


def test_progress_is_notified_where_nothing_else_was_sent(driver: Driver) -> None:
    client = driver.open()
    driver.create(client, b"a", progress_notify=True)
    driver.create(client, b"b")
    driver.put(b"c")
    driver.settle(client)
    driver.hub.notify_progress()
    (told,) = driver.take(client)
    driver.put(b"a")
    driver.settle(client)
    driver.hub.notify_progress()

    assert (told.watch_id, told.header.revision, list(told.events)) == (0, 2, [])
    assert driver.take(client) == []


def test_a_limit_on_watches_of_one_client_is_said_clearly(store: Store) -> None:
    driver = Driver(store, WatchLimits(watches_per_connection=3))
    client, other = driver.open("one"), driver.open("another")
    for _ in range(4):
        driver.create(client, b"a")
    driver.create(other, b"a")

    *_, refused = client.take()
    assert (refused.created, refused.canceled, refused.watch_id) == (True, True, -1)
    assert "limit" in refused.cancel_reason
    assert "3" in refused.cancel_reason
    assert not other.take()[0].canceled
    driver.hub.cancel(client.outbox, 0)
    driver.create(client, b"a")
    assert not client.take()[-1].canceled


def test_a_closed_stream_leaves_nothing_behind(store: Store) -> None:
    driver = Driver(store, SMALL)
    for _ in range(10):
        driver.put(b"a", value=b"x" * 100)
    client, other = driver.open(), driver.open("other")
    for start in range(1, 11):
        driver.create(client, b"a", b"b", start=start)
    driver.create(other, b"a", start=1)
    driver.run()
    driver.hub.close(client.outbox)
    driver.settle(other)

    assert other.events(0) == driver.log
    assert (driver.hub.watch_count, driver.budget.bytes, client.take()) == (1, 0, [])


def test_a_large_revision_costs_a_stream_that_does_not_read_no_more_than_it_can_take(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: fifty watches want 500 changes of one revision each, and there is room for one of them."""
    driver = Driver(store, WatchLimits(outbox_bytes=4000, events_gathered=100))
    silent = driver.open()
    for _ in range(50):
        driver.create(silent, b"k", b"l")
    silent.take()
    handled = 0
    watching = WatcherGroup.watching

    def counted(group: WatcherGroup, key: bytes) -> Iterator[Watcher]:
        nonlocal handled
        for watcher in watching(group, key):
            handled += 1
            yield watcher

    monkeypatch.setattr(WatcherGroup, "watching", counted)
    driver.put(*(b"k%03d" % number for number in range(500)))
    driver.run()

    assert handled < 3000
    assert len(silent.outbox.parked) == 49
    driver.settle(silent)
    assert all(silent.events(watch_id) == driver.log for watch_id in range(50))


def test_ten_thousand_watches_cost_an_event_what_its_own_watch_costs(driver: Driver) -> None:
    """Counted, not timed: nobody's outbox is touched but those of the watches that match."""
    client = driver.open()
    for number in range(5_000):
        driver.create(client, b"single/%05d" % number)
        driver.create(client, b"range/%05d/" % number, b"range/%05d0" % number)
    client.take()
    driver.put(b"single/04711")
    driver.put(b"range/00815/x")
    driver.put(b"nobody")
    driver.settle(client)

    assert [response.watch_id for response in client.read if response.events] == [2 * 4711, 2 * 815 + 1]


def test_ten_thousand_watches_of_one_key_are_told_in_steps_of_bounded_size(driver: Driver) -> None:
    clients = [driver.open(f"c{number}") for number in range(100)]
    for client in clients:
        for _ in range(100):
            driver.create(client, b"a", b"b")
        client.take()
    driver.put(b"a")
    driver.put(b"a")
    driver.run()

    assert all(len(client.take()) == 100 for client in clients)


@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_lost_doubled_or_reordered_in_any_interleaving(store: Store, seed: int) -> None:
    """Everything at random: writes, reads, arrivals, steps, slow clients, cancelations, compactions."""
    rng = random.Random(seed)
    driver = Driver(store, SMALL)
    clients = [driver.open(f"c{number}") for number in range(3)]
    watches: dict[tuple[int, int], tuple[bytes, bytes | None, int]] = {}
    compactions = rng.random() < 0.5

    for _ in range(rng.randint(50, 600)):
        _random_action(rng, driver, clients, watches, compactions)
    driver.settle(*clients)

    for (number, watch_id), (key, end, start) in watches.items():
        _check(driver, clients[number], watch_id, driver.expected(key, end, start))
    assert driver.budget.bytes == 0


def _random_action(
    rng: random.Random,
    driver: Driver,
    clients: list[Client],
    watches: dict[tuple[int, int], tuple[bytes, bytes | None, int]],
    compactions: bool,
) -> None:
    number = rng.randrange(len(clients))
    client = clients[number]
    match rng.choice("pppPdlllhhhaaasssttcxK"):
        case "p":
            driver.put(b"k%d" % rng.randrange(6), value=b"x" * rng.randrange(100))
        case "P":
            driver.put(*(b"k%d" % key for key in range(rng.randrange(1, 9))), value=b"x" * rng.randrange(40))
        case "d":
            driver.delete(b"k%d" % rng.randrange(6))
        case "l":
            driver.read_live()
        case "h":
            driver.read_history()
        case "a":
            driver.arrive()
        case "s":
            driver.step()
        case "t":
            driver.take(client, rng.randrange(1, 6))
        case "c":
            start = rng.choice([0, 0, rng.randint(1, driver.store.revision + 4)])
            first = b"k%d" % rng.randrange(6)
            end = rng.choice([b"", b"", b"k9", b"k%d" % rng.randrange(7)])
            if not end or first < end:
                watch_id = client.outbox.next_id
                driver.create(client, first, end, start, prev_kv=rng.random() < 0.3, fragment=rng.random() < 0.3)
                watches[number, watch_id] = (first, end or None, start or driver.store.revision + 1)
        case "x":
            driver.hub.request_progress(client.outbox, driver.store.revision)
        case "K":
            low, high = max(driver.store.compact_revision, 1), driver.store.revision
            if compactions and rng.random() < 0.3 and low < high:
                driver.compact(rng.randint(low + 1, high), physically=rng.random() < 0.7)


def _check(driver: Driver, client: Client, watch_id: int, expected: list[tuple[int, bytes, bool]]) -> None:
    responses = [response for response in client.read if response.watch_id == watch_id]
    events = client.events(watch_id)
    if responses[-1].canceled:
        assert responses[-1].compact_revision > 0
        assert events == expected[: len(events)]
    else:
        tolerated = (
            driver.store.compact_revision
        )  # A watch may start at the compact revision, whose deletions are gone.
        missing = [event for event in expected if event not in events]
        assert all(revision <= tolerated for revision, _, _ in missing), (events, missing)
        assert events == [event for event in expected if event in events]
    for before, after in pairwise(responses):
        if before.events and after.events and not before.fragment:
            assert before.events[-1].kv.mod_revision < after.events[0].kv.mod_revision, "a revision was split"
