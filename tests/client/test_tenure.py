"""What the owner of a lease may believe, on a clock that the test turns."""

from __future__ import annotations

import pytest

from raftkv import LeaseLost
from raftkv.client.tenure import RENEWALS_PER_TTL, Tenure


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tenure(clock: Clock) -> Tenure:
    """Of 9 s, asked for a second ago."""
    return Tenure(0xABC, 9, sent_at=clock.now - 1, clock=clock)


def test_time_counts_from_when_the_request_was_sent(tenure: Tenure, clock: Clock) -> None:
    assert tenure.remaining() == 8
    clock.now += 7.9
    assert not tenure.is_over
    clock.now += 0.1
    assert tenure.is_lost
    assert tenure.remaining() == 0


def test_a_renewal_counts_from_when_it_was_sent(tenure: Tenure, clock: Clock) -> None:
    clock.now += 5
    tenure.renewed(9, sent_at=clock.now - 2)

    assert tenure.remaining() == 7


def test_an_answer_that_comes_late_does_not_shorten_it(tenure: Tenure, clock: Clock) -> None:
    tenure.renewed(9, sent_at=clock.now)
    tenure.renewed(9, sent_at=clock.now - 1)

    assert tenure.remaining() == 9


def test_what_is_lost_stays_lost_whatever_answers_come_later(tenure: Tenure, clock: Clock) -> None:
    sent_at = clock.now + 7
    clock.now += 8
    tenure.renewed(9, sent_at=sent_at)

    assert tenure.is_lost
    assert tenure.remaining() == 0


def test_renewals_are_due_often_enough_for_some_to_fail(tenure: Tenure, clock: Clock) -> None:
    assert tenure.renew_in() == 9 / RENEWALS_PER_TTL - 1
    clock.now += 5
    assert tenure.renew_in() == 0


def test_who_listens_is_told_once_it_is_over_and_at_once_from_then_on(tenure: Tenure) -> None:
    told: list[str] = []
    tenure.listen(lambda: told.append("early"))
    assert told == []

    tenure.end("revoked", is_lost=False)
    tenure.listen(lambda: told.append("late"))

    assert told == ["early", "late"]
    assert not tenure.is_lost


def test_the_error_names_the_lease_and_the_reason(tenure: Tenure, clock: Clock) -> None:
    tenure.require()
    clock.now += 100

    with pytest.raises(
        LeaseLost, match="lease 0000000000000abc is gone: no renewal was confirmed within its TTL of 9 s"
    ):
        tenure.require()


def test_a_child_of_a_fork_does_not_have_it(tenure: Tenure) -> None:
    told: list[str] = []
    tenure.listen(lambda: told.append("its threads are gone"))
    tenure.leave_behind("it is the parent's")

    with pytest.raises(LeaseLost, match="the parent's"):
        tenure.require()
    assert told == []
