"""Commands that last, while servers fail: they go on where that makes sense, and end with what matters most."""

from __future__ import annotations

import time
from typing import Any

import pytest

from raftkv.cli import lease, member_replace
from raftkv.cli.exits import Failure
from raftkv.cli.lock import CommandFailed, run_holding
from raftkv.errors import (
    LEARNER_NOT_READY,
    NO_LEADER,
    NOT_A_LEARNER,
    DeadlineExceeded,
    FailedPrecondition,
    RequestError,
    Unavailable,
)
from raftkv.pb import rpc_pb2

NOBODY = Unavailable("cannot connect to 127.0.0.1:1: connection refused")
TOO_LATE = DeadlineExceeded("context deadline exceeded")


class Scripted:
    """In place of a connection: what its calls end with, one after the other; the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def lease_keep_alive(self, _lease: int) -> Any:
        return self._next()

    def member_promote(self, _member: int) -> Any:
        return self._next()

    def _next(self) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, RequestError):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RETRY_S", 0.0)
    monkeypatch.setattr(member_replace, "LOOK_AGAIN_S", 0.0)


def test_a_renewal_is_tried_until_the_lease_has_expired() -> None:
    answer = rpc_pb2.LeaseKeepAliveResponse(ID=1, TTL=10)
    expires_at = time.monotonic() + 1000

    assert lease.renewed(Scripted(NOBODY, TOO_LATE, NOBODY, answer), 1, expires_at) == answer  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        lease.renewed(Scripted(NOBODY), 1, time.monotonic() + 0.05)  # type: ignore[arg-type]
    with pytest.raises(DeadlineExceeded):  # Nothing is known of the lease yet.
        lease.renewed(Scripted(TOO_LATE, answer), 1, 0.0)  # type: ignore[arg-type]


def test_a_new_member_is_promoted_though_a_quorum_or_an_answer_was_missing() -> None:
    not_ready, done = FailedPrecondition(LEARNER_NOT_READY), FailedPrecondition(NOT_A_LEARNER)

    for last in (rpc_pb2.MemberPromoteResponse(), done):
        connection = Scripted(not_ready, Unavailable(NO_LEADER), TOO_LATE, not_ready, last)
        member_replace.promote_when_ready(connection, 0xAB, 1000)  # type: ignore[arg-type]
        assert connection.answers == [last]


def test_who_waits_in_vain_for_a_new_member_is_told_what_to_do_next() -> None:
    with pytest.raises(
        Failure, match=r"member ab is not ready yet \(etcdserver: no leader\); later: raftkv member promote ab"
    ):
        member_replace.promote_when_ready(Scripted(Unavailable(NO_LEADER)), 0xAB, 0.0)  # type: ignore[arg-type]
    with pytest.raises(FailedPrecondition, match="unwell"):
        member_replace.promote_when_ready(Scripted(FailedPrecondition("unwell")), 0xAB, 1000)  # type: ignore[arg-type]


class Held:
    """A lock that cannot be released."""

    key = b"n/1"

    class lost:  # noqa: N801 - as it is called
        @staticmethod
        def is_set() -> bool:
            return False

    def release(self) -> None:
        raise TOO_LATE


def test_the_exit_code_is_the_commands_though_the_lock_cannot_be_released(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandFailed, match="exit status 7") as failed:
        run_holding(Held(), 5, ["sh", "-c", "exit 7"])  # type: ignore[arg-type]
    assert failed.value.exit_code == 7
    assert capfd.readouterr().err == "the lock was not released: context deadline exceeded\n"

    with pytest.raises(DeadlineExceeded):  # As etcdctl: the lock may be held for a while.
        run_holding(Held(), 5, ["true"])  # type: ignore[arg-type]
