"""applier: the state machine's thread does its work in order and reports everything, its own failure included."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeVar

import pytest

from raftkv.errors import CorruptionError, InvalidArgument, RequestError
from raftkv.lab.process import wait_until
from raftkv.node import Applier
from raftkv.node.events import Applied, Called, Committing, Durable, Event, Failed, Foreseen, Installed
from raftkv.raft import Entry, EntryKind, Membership
from raftkv.statemachine import StateMachine
from raftkv.statemachine.outlook import Outlook
from tests.node.support import held_commit, noop
from tests.statemachine.support import CLUSTER, US, Clock, batch, compact, everything, get, open_machine, put
from tests.support import WAIT_S

T = TypeVar("T")


class Bench:
    """An applier whose reports are queued; its clock stands still until a test moves it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.machine = open_machine(path, clock=self.clock)
        self.events: Queue[Event] = Queue()
        self.applier = Applier(self.machine, self.events.put, wanted=US)
        self.applier.start()

    def next(self, kind: type[T]) -> T:
        """The next report, which must be of this kind; the size of the database is reported now and then."""
        while True:
            event = self.events.get(timeout=WAIT_S)
            if isinstance(event, kind):
                return event
            assert isinstance(event, Durable), event

    @contextmanager
    def commit(self, *, begin: Callable[[], None] = lambda: None) -> Iterator[None]:
        """The applier is in a commit, which lasts as long as this is entered. `begin`: what it waits for."""

        def commit_is_due() -> None:
            self.clock.now_s += 1_000.0
            begin()

        with held_commit(self.machine, commit_is_due):
            yield

    def call(self, job: Callable[[StateMachine], Any]) -> Any:
        self.applier.call(job, lambda result: None)
        return self.next(Called).result


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "state")
    yield made
    made.applier.close()


def test_entries_are_reported_applied_with_the_answers_to_our_own_batches(bench: Bench) -> None:
    bench.applier.apply([noop(1), batch(2, put(b"a"), put(b"b")), batch(3, put(b"c"), origin=9)])

    applied = bench.next(Applied)

    assert applied.index == 3
    assert [(ours.sequence, len(ours.answers)) for ours in applied.batches] == [(2, 2)]
    assert not applied.members_changed


def test_work_is_done_in_the_order_given(bench: Bench) -> None:
    """So a read behind the entries it must see needs no further waiting."""
    for index in range(1, 21):
        bench.applier.apply([batch(index, put(b"key", b"%d" % index))])
        bench.applier.call(lambda machine: (machine.applied_index, get(machine, b"key")), lambda result: None)

    for index in range(1, 21):
        assert bench.next(Applied).index == index
        assert bench.next(Called).result == (index, b"%d" % index)


def test_the_callers_callback_runs_where_the_report_is_handled(bench: Bench) -> None:
    ran_on: list[int] = []
    bench.applier.call(lambda machine: threading.get_ident(), lambda result: ran_on.append(threading.get_ident()))

    called = bench.next(Called)
    assert called.result != threading.get_ident()
    assert ran_on == []
    called.done(called.result)
    assert ran_on == [threading.get_ident()]


def test_a_refusal_is_a_result(bench: Bench) -> None:
    def refuse(machine: StateMachine) -> None:
        raise InvalidArgument("no")

    result = bench.call(refuse)

    assert isinstance(result, RequestError)
    assert bench.call(lambda machine: machine.applied_index) == 0


def test_any_other_exception_ends_the_thread_and_is_reported(bench: Bench) -> None:
    def fail(machine: StateMachine) -> None:
        raise CorruptionError("the tree is broken")

    bench.applier.call(fail, lambda result: None)
    bench.applier.call(lambda machine: "never", lambda result: None)

    assert isinstance(bench.next(Failed).error, CorruptionError)
    bench.applier.close()
    with pytest.raises(Empty):
        bench.events.get_nowait()


def test_an_entry_that_does_not_follow_is_a_bug_and_ends_the_thread(bench: Bench) -> None:
    bench.applier.apply([noop(2)])

    assert isinstance(bench.next(Failed).error, AssertionError)


def test_a_change_of_members_is_reported(bench: Bench) -> None:
    bench.applier.apply([Entry(1, 1, EntryKind.MEMBERSHIP, b"", Membership(voters=frozenset({1, 2})))])
    assert bench.next(Applied).members_changed

    bench.applier.apply([noop(2)])
    assert not bench.next(Applied).members_changed


def test_what_was_applied_is_committed_when_its_time_has_come_and_reported(bench: Bench) -> None:
    bench.applier.apply([batch(1, put(b"key"))])
    assert bench.next(Applied).index == 1
    assert bench.call(lambda machine: machine.durable_index) == 0
    assert bench.events.empty()

    bench.clock.now_s += 1_000.0

    durable = bench.events.get(timeout=WAIT_S)
    assert isinstance(durable, Durable)
    assert durable.index == 1
    assert durable.bytes_on_disk >= durable.bytes_in_use > 0


def test_a_commit_that_a_job_made_is_reported_too(bench: Bench) -> None:
    bench.applier.apply([batch(1, put(b"key"))])
    bench.next(Applied)
    bench.call(lambda machine: machine.commit())

    durable = bench.events.get(timeout=WAIT_S)

    assert isinstance(durable, Durable)
    assert durable.index == 1


def revisions(batches: Iterable[Any]) -> list[tuple[int, list[int]]]:
    return [(one.sequence, [answer.header.revision for answer in one.answers]) for one in batches]


def test_during_a_commit_puts_are_answered_and_applied_when_it_is_over(bench: Bench) -> None:
    bench.applier.apply([batch(1, put(b"a"))])
    bench.next(Applied)

    with bench.commit():
        bench.applier.apply([batch(2, put(b"b"), put(b"c")), batch(3, put(b"a"), origin=9)])
        bench.applier.call(everything, lambda result: None)
        first = bench.next(Foreseen)
        bench.applier.apply([batch(4, put(b"b"))])
        second = bench.next(Foreseen)
        first.batches[0].answers[0].header.raft_term = 7  # Whoever answers a client completes it so.
        assert bench.events.empty()
        assert bench.machine.applied_index == 1

    assert revisions([*first.batches, *second.batches]) == [(2, [3, 4]), (4, [6])]
    assert revisions(bench.next(Applied).batches) == revisions(first.batches)
    assert list(bench.next(Called).result) == [b"a", b"b", b"c"]
    assert bench.next(Applied).batches == second.batches


def test_so_are_puts_that_were_waiting_when_it_began(bench: Bench) -> None:
    may_begin = threading.Event()
    bench.applier.apply([batch(1, put(b"a"))])
    bench.next(Applied)
    bench.applier.call(lambda machine: may_begin.wait(WAIT_S), lambda result: None)
    bench.applier.apply([batch(2, put(b"b"))])

    with bench.commit(begin=may_begin.set):
        bench.next(Called)
        bench.next(Committing).foresee()
        told = bench.next(Foreseen)

    assert revisions(told.batches) == [(2, [3])]
    assert revisions(bench.next(Applied).batches) == [(2, [3])]


def test_without_a_commit_nothing_is_foreseen(bench: Bench) -> None:
    for index in (1, 2, 3):
        bench.applier.apply([batch(index, put(b"a"))])

    assert [type(bench.events.get(timeout=WAIT_S)) for _ in range(3)] == [Applied] * 3


def test_who_has_answered_otherwise_than_it_applies_must_not_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.applier.apply([batch(1, put(b"a"))])
    bench.next(Applied)
    records = bench.machine._records
    monkeypatch.setattr(bench.machine, "outlook", lambda wanted: Outlook(records, 7, wanted=wanted))

    with bench.commit():
        bench.applier.apply([batch(2, put(b"b"))])
        assert revisions(bench.next(Foreseen).batches) == [(2, [8])]

    assert "batch 2 was answered otherwise" in str(bench.next(Failed).error)


def test_who_has_answered_what_is_not_applied_must_not_go_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.applier.apply([batch(1, put(b"a"), sequence=1)])
    bench.next(Applied)
    monkeypatch.setattr(Outlook, "_will_admit", lambda self, batch: True)

    with bench.commit():
        bench.applier.apply([batch(2, put(b"a"), sequence=1)])
        assert revisions(bench.next(Foreseen).batches) == [(1, [3])]

    assert "batches [1] were answered and are not applied" in str(bench.next(Failed).error)


def test_what_was_compacted_is_removed_when_no_job_comes(bench: Bench) -> None:
    bench.applier.apply([batch(1, *(put(b"key", b"%d" % n) for n in range(50))), batch(2, compact(40))])

    assert wait_until(lambda: bench.machine.removed_revision == 40, WAIT_S)


def test_what_was_compacted_is_removed_though_there_are_always_jobs(bench: Bench) -> None:
    bench.applier.apply([batch(1, *(put(b"key", b"%d" % n) for n in range(50))), batch(2, compact(40))])
    for _ in range(100):
        bench.applier.call(lambda machine: machine.removed_revision, lambda result: None)

    bench.next(Applied)
    seen = [bench.next(Called).result for _ in range(100)]

    assert seen[0] < 40
    assert seen[-1] == 40


def test_a_snapshot_is_installed_in_its_turn(bench: Bench, tmp_path: Path) -> None:
    origin = open_machine(tmp_path / "origin")
    origin.apply([noop(1), batch(2, put(b"from afar"))])
    meta = origin.snapshot_to(tmp_path / "file")
    origin.close()
    bench.applier.apply([noop(1)])
    bench.applier.install(tmp_path / "file", meta)
    bench.applier.apply([batch(3, put(b"after"))])

    assert bench.next(Applied).index == 1
    assert bench.next(Installed).snapshot == meta
    assert bench.next(Applied).index == 3
    assert list(bench.call(everything)) == [b"after", b"from afar"]


def test_a_damaged_snapshot_ends_the_thread(bench: Bench, tmp_path: Path) -> None:
    origin = open_machine(tmp_path / "origin")
    origin.apply([noop(1)])
    meta = origin.snapshot_to(tmp_path / "file")
    origin.close()
    content = bytearray((tmp_path / "file").read_bytes())
    content[100] ^= 1
    (tmp_path / "file").write_bytes(content)

    bench.applier.install(tmp_path / "file", meta)

    assert isinstance(bench.next(Failed).error, CorruptionError)


def test_closing_finishes_what_is_queued_and_commits(bench: Bench) -> None:
    for index in range(1, 11):
        bench.applier.apply([batch(index, put(b"%02d" % index))])

    bench.applier.close()

    again = open_machine(bench.path)
    assert again.cluster_id == CLUSTER
    assert again.durable_index == 10
    assert len(everything(again)) == 10
    again.close()
