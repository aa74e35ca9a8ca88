"""A failing run is cut down to what its failure needs, and still fails as before."""

from __future__ import annotations

import io

from tests.sim.known_bugs import BUGS, planted
from tests.sim.mutants import hunt
from tests.sim.schedule import Schedule
from tests.sim.shrink import shrink
from tests.sim.tiers import Failure, run_seed


def test_what_is_left_still_fails_with_fewer_faults() -> None:
    known = next(known for known in BUGS if known.name == "second_vote_in_a_term")
    caught = hunt(known)
    assert caught is not None
    with planted(known):
        failure = run_seed(1, caught.seed)
        assert isinstance(failure, Failure)

        smallest = shrink(failure, io.StringIO())
        again = run_seed(1, caught.seed, schedule=smallest.schedule)

    assert isinstance(again, Failure)
    assert again.name == failure.name
    assert smallest.strikes < failure.strikes or smallest.schedule.without
    assert smallest.schedule.options() in smallest.replay


def test_a_schedule_is_written_as_the_command_line_reads_it() -> None:
    schedule = Schedule(without=frozenset({"loss", "crash"}), faults_max=7, skipped=frozenset({3, 1}))

    assert schedule.options() == "--without crash,loss --faults 7 --skip 1,3"
    assert not Schedule().options()


def test_what_is_left_out_does_not_happen() -> None:
    trace: list[str] = []

    run_seed(1, 13, schedule=Schedule(without=frozenset({"crash", "crash_leader"})), trace=trace)

    assert len(trace) > 100
    healed = next(number for number, line in enumerate(trace) if "HEALED" in line)
    assert not any("CRASH" in line for line in trace[: healed - 5])
