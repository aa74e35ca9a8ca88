"""What a failed RPC tells about the write in it: it never will be applied, or nobody knows.

    how the call ended                                      write             write of a session   read
    never sent: no connection was ever there                sent again        sent again           sent again
    the server says `not-applied` and UNAVAILABLE           sent again        sent again           sent again
    connection broke, UNAVAILABLE without a word            UNKNOWN           sent again           sent again
    no answer within the deadline, cancelled                UNKNOWN           UNKNOWN              raises
    the server refused it (InvalidArgument, NotFound, …)    NOT_APPLIED       NOT_APPLIED          raises
    any other code (INTERNAL, …)                            UNKNOWN           UNKNOWN              raises

"Sent again" is until the deadline, at another endpoint where there is one. A write of a session of which a copy is in doubt
stays so until the state machine itself has answered: what a server refuses before it asks that says nothing of the first copy.

A texts-only judgement is dangerous: a server may relay the text of a call of its own. "Never sent" is therefore claimed
only for an error with gRPC's own text *and* without any metadata, from a channel that had lost its connection; the
normal way to know is that `connection.py` saw no connection and did not call at all.

What may not live here: the sending again (see `engine.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from raftkv.client.operation import Operation
from raftkv.errors import UNHEALTHY, Code, Outcome, RequestError, request_error
from raftkv.pb import store_pb2

OUTCOME_KEY = "raftkv-outcome"
_NEVER_SENT = ("failed to connect to all addresses", "errors resolving ")
_REFUSALS = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.ALREADY_EXISTS,
        Code.PERMISSION_DENIED,
        Code.FAILED_PRECONDITION,
        Code.OUT_OF_RANGE,
        Code.UNIMPLEMENTED,
        Code.UNAUTHENTICATED,
    }
)
_ANSWERS = frozenset({Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.OUT_OF_RANGE})
"""With these a command is refused by what it says, or by the state: so every copy of it is."""
_SILENCE = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED})
_BROKE_IN_WRITE = "Internal error from Core"
"""grpc.aio's text for a stream that turned out to have ended when something was written to it."""
_ETCD = "etcdserver: "
_OURS = "raftkv: "
"""Texts about sessions: of this copy alone."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call failed.

    Attributes:
        code: gRPC's status code.
        message: the text that came with it.
        outcome: what became of a write in it.
    """

    code: Code
    message: str
    outcome: Outcome

    @property
    def is_silence(self) -> bool:
        """Whether it tells nothing of what the server can do."""
        return self.code in _SILENCE

    def may_resend(self, operation: Operation[Any]) -> bool:
        """Whether sending the operation again is both safe and likely to help."""
        if self.message == UNHEALTHY:
            return False  # A change of the members was refused: not for the moment, but because somebody is missing.
        return self.code is Code.UNAVAILABLE and (operation.is_repeatable or self.outcome is Outcome.NOT_APPLIED)

    def error(self, operation: Operation[Any]) -> RequestError:
        """A new exception; every caller gets one of its own, because a traceback is attached to it."""
        return self.error_of(Outcome.NOT_APPLIED if operation.kind.reads else self._outcome_of(operation))

    def error_of(self, outcome: Outcome) -> RequestError:
        return request_error(self.code, self.message, outcome=outcome)

    def _outcome_of(self, operation: Operation[Any]) -> Outcome:
        is_of_the_state = self.code in _ANSWERS and not self.message.startswith(_OURS)
        return Outcome.UNKNOWN if operation.in_doubt and not is_of_the_state else self.outcome


class CallFailed(Exception):
    """A call ended without a response; carries the `Failure`. Never leaves the client: not of the public tree."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    """Judge a call that gRPC says has failed."""
    code = _code(error.code().value[0])
    message = error.details() or f"the call failed with {code.name} and no text"
    if code is Code.CANCELLED and message == "CANCELLED":
        # Nobody's words, but what gRPC makes of a broken stream: so a server that closes ends calls which it has not taken up.
        code, message = Code.UNAVAILABLE, "the server closed the call"
    trailing = dict(error.trailing_metadata() or ())
    if code is Code.INTERNAL and message == _BROKE_IN_WRITE and not trailing:
        code, message = Code.UNAVAILABLE, "the connection broke"
    declared = trailing.get(OUTCOME_KEY)
    if declared is not None:
        outcome = Outcome.NOT_APPLIED if declared in ("not-applied", b"not-applied") else Outcome.UNKNOWN
    elif code is Code.UNAVAILABLE and message.startswith(_NEVER_SENT) and not trailing:
        outcome = Outcome.NOT_APPLIED if not error.initial_metadata() else Outcome.UNKNOWN
    elif code is Code.RESOURCE_EXHAUSTED:
        # etcd refuses with this code before applying; gRPC itself uses it for a *response* that is too large to send.
        outcome = Outcome.NOT_APPLIED if message.startswith(_ETCD) else Outcome.UNKNOWN
    else:
        outcome = Outcome.NOT_APPLIED if code in _REFUSALS else Outcome.UNKNOWN
    return Failure(code, message, outcome)


def failure_in_answer(failure: store_pb2.Failure) -> Failure:
    """Judge the answer to a batch, or to one operation of it, which states its outcome."""
    not_applied = failure.outcome == store_pb2.Failure.NOT_APPLIED
    return Failure(_code(failure.code), failure.message, Outcome.NOT_APPLIED if not_applied else Outcome.UNKNOWN)


def unreadable(address: str, error: DecodeError) -> Failure:
    """Judge an answer that is none."""
    return Failure(Code.INTERNAL, f"{address} sent bytes that are no answer: {error}", Outcome.UNKNOWN)


def _code(number: int) -> Code:
    return Code(number) if number in Code._value2member_map_ else Code.UNKNOWN
