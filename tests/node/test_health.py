"""node: what is a sickness, when it begins and when it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.node.health import HealthWatch, Severity, Signs, Watchdogs
from raftkv.node.watchdogs import DiskSpace, Monitor
from tests.node.support import new_raft
from tests.support import eventually

DOGS = Watchdogs(fsync_s=0.3, apply_s=1.0, loop_s=0.25, disk_free_bytes=1000, recovery_s=10.0)


@pytest.mark.parametrize(
    ("signs", "severity", "reason"),
    [
        (Signs(log_write_s=0.31), Severity.STUCK, "the disk has not come back for 0.31 s"),
        (Signs(space_look_s=0.5), Severity.STUCK, "the disk has not come back for 0.50 s"),
        (Signs(apply_wait_s=1.5), Severity.STUCK, "nothing was applied for 1.50 s"),
        (Signs(disk_free_bytes=999), Severity.FULL, "0 MiB are free on the disk"),
    ],
)
def test_one_sign_is_enough(signs: Signs, severity: Severity, reason: str) -> None:
    health = HealthWatch(DOGS).observe(signs, 1.0)

    assert (health.severity, health.reasons) == (severity, (reason,))


@pytest.mark.parametrize(
    "signs", [Signs(), Signs(log_write_s=0.3, apply_wait_s=1.0, loop_lag_s=0.2, disk_free_bytes=1000)]
)
def test_below_the_thresholds_a_node_is_well(signs: Signs) -> None:
    assert HealthWatch(DOGS).observe(signs, 1.0).severity is Severity.WELL


def test_a_watchdog_that_is_turned_off_sees_nothing() -> None:
    watch = HealthWatch(Watchdogs(fsync_s=0, apply_s=0, loop_s=0, disk_free_bytes=0))
    for now in range(10):
        health = watch.observe(Signs(log_write_s=9, apply_wait_s=9, loop_lag_s=9, disk_free_bytes=0), now)

    assert health.severity is Severity.WELL


def test_the_loop_must_be_late_several_times_within_a_while() -> None:
    watch = HealthWatch(DOGS)
    late = Signs(loop_lag_s=0.3)
    assert [watch.observe(late, now).severity for now in (0.0, 6.0, 12.0)] == [Severity.WELL] * 3

    assert watch.observe(late, 13.0).severity is Severity.SLOW


def test_the_worst_counts_and_comes_first() -> None:
    health = HealthWatch(DOGS).observe(Signs(log_write_s=1.0, disk_free_bytes=0), 0.0)

    assert health.severity is Severity.FULL
    assert health.reasons == ("0 MiB are free on the disk", "the disk has not come back for 1.00 s")


def test_a_sickness_ends_when_nothing_was_wrong_for_a_while() -> None:
    """A disk that comes and goes must not move leadership back and forth."""
    watch = HealthWatch(DOGS)
    watch.observe(Signs(log_write_s=1.0), 0.0)
    assert watch.observe(Signs(), 9.0).severity is Severity.STUCK
    watch.observe(Signs(log_write_s=0.4), 9.5)
    assert watch.observe(Signs(), 19.0).severity is Severity.STUCK

    assert watch.observe(Signs(), 19.5).severity is Severity.WELL


def test_a_lesser_sickness_does_not_make_a_node_fitter_before_it_has_recovered() -> None:
    watch = HealthWatch(DOGS)
    watch.observe(Signs(disk_free_bytes=0), 0.0)

    assert watch.observe(Signs(disk_free_bytes=5000, log_write_s=1.0), 1.0).severity is Severity.FULL


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_state_machine_with_nothing_to_do_is_not_stuck() -> None:
    clock = Clock()
    monitor = Monitor(DOGS, clock=clock, log_write_since=lambda: None)
    raft = new_raft()
    clock.now += 60.0

    assert monitor.look(raft, apply_queued_index=0, loop_lag_s=0.0).severity is Severity.WELL


def test_a_state_machine_that_does_not_move_is_stuck_from_the_moment_it_had_work() -> None:
    clock = Clock()
    monitor = Monitor(DOGS, clock=clock, log_write_since=lambda: None)
    raft = new_raft()
    clock.now += 60.0
    monitor.look(raft, apply_queued_index=0, loop_lag_s=0.0)
    clock.now += 0.9
    assert monitor.look(raft, apply_queued_index=5, loop_lag_s=0.0).severity is Severity.WELL
    clock.now += 0.2

    assert monitor.look(raft, apply_queued_index=5, loop_lag_s=0.0).severity is Severity.STUCK


def test_the_age_of_the_log_write_under_way_is_what_counts() -> None:
    clock = Clock()
    monitor = Monitor(DOGS, clock=clock, log_write_since=lambda: 100.0)
    assert monitor.look(new_raft(), apply_queued_index=0, loop_lag_s=0.0).severity is Severity.WELL
    clock.now = 100.4

    assert monitor.look(new_raft(), apply_queued_index=0, loop_lag_s=0.0).severity is Severity.STUCK


async def test_the_free_space_of_a_file_system_is_looked_up(tmp_path: Path) -> None:
    space = DiskSpace(tmp_path)
    space.start()
    try:
        await eventually(lambda: space.free_bytes is not None)
    finally:
        space.close()

    assert space.free_bytes is not None
    assert space.free_bytes > 0
