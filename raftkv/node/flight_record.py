"""What a node remembers of elections, failures and their evidence: one JSON object a line, kept by `storage.FlightFile`.

    Node ── what the core noticed, which peers come and go, how late the loop is ──► FlightRecord ──► lines

Every event has `seq` (without a gap within a node, also across its runs), `run` (the incarnation), `at` (seconds since 1970 on
this node's clock), `up` (seconds since this run began, on a clock that is never set), `kind`, and `term` (the node's). What
else it has depends on `kind`; members are called by their names. A reader must tolerate kinds and fields it does not know.

    start        version, pid, incarnation, last_index, applied_index, members; previous: how the run before ended
    stopping     it was asked to stop             stopped      it has, in good order
    failed       it stops by itself: error
    campaign     it asks for (pre-)votes in for_term: cause, leader until now, silent_ms; evidence
    answer       it was asked for its (pre-)vote: candidate, for_term, granted, or refusal with details
    counted      its campaign got an answer: voter, for_term, granted
    leader       leader, role: somebody leads in this node's eyes (`term`)
    no-leader    nobody does any more
    step-down    it led, or wanted to: role, cause, by, later_term; evidence
    resigned     leader: it said that it leads no more
    transfer     begun or given-up: target
    peer         peer: state connected, lost (reason) or dead (reason); heard_ms: since its last word
    held-up      its loop stood still: lag_ms
    snapshot     state sent, failed or installed: peer, index
    members      voters, learners, outgoing_voters: the configuration that is in force
    health       severity, reasons: how fit to lead this node finds itself, when that changes
    drill        fault, state begun or over: somebody broke this node on purpose
    reach        cut_off: whether this node finds that it cannot take part any more

Evidence: `links` (each peer: up, or why not), `heard_ms` (each peer: since its last word), `loop_lag_ms` (the worst tick of
the last second) and `fsync_ms` (for how long the log's sync in flight has not come back; null: none is).

An event that comes again and again (a node that is cut off asks for votes for hours) is recorded ever more rarely, with
`again`: how often it came since it was last recorded.

What may not live here: files, and the meaning of it all (`lab.timeline`).
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raftkv.raft import Message, Raft, RoleName, SoftState
from raftkv.raft.notices import (
    Campaigned,
    LeaderResigned,
    Notice,
    Refusal,
    SteppedDown,
    TransferBegun,
    TransferGivenUp,
    VoteAnswered,
    VoteCounted,
)
from raftkv.raft.types import NO_NODE, Membership, NodeId
from raftkv.version import __version__

HELD_UP_S = 0.15
"""A loop that stood still this long is worth a line: half of an election timeout that nobody should set lower."""
TEXT_CHARACTERS_MAX = 500
BURST = 3
"""So often an event is recorded in full before it counts as one that comes again and again."""
QUIET_S = 3.0
"""After this without it, an event is news again."""
PAUSE_MAX_S = 600.0
REPEATS_MAX = 256
LAG_WINDOW_S = 1.0
EVERYTHING = 2**62
RECORD_KIND = "record"
_VOLATILE = frozenset(
    {"silent_ms", "heard_ms", "links", "loop_lag_ms", "fsync_ms", "lag_ms", "own_last", "candidate_last"}
)
"""What differs between two events that are the same news."""


class FlightPort(Protocol):
    """Where lines go; `append` returns at once."""

    def append(self, line: bytes) -> None: ...

    def lines(self, bytes_max: int) -> list[bytes]: ...


class Memory:
    """Keeps the newest lines in memory alone: for a node without a record of its own."""

    def __init__(self, lines_max: int = 1000) -> None:
        self._lines: deque[bytes] = deque(maxlen=lines_max)

    def append(self, line: bytes) -> None:
        self._lines.append(line)

    def lines(self, bytes_max: int) -> list[bytes]:
        return list(self._lines)


@dataclass(slots=True)
class _Repeat:
    seen_at: float
    count: int = 1
    again: int = 0
    pause_s: float = 1.0
    next_at: float = 0.0


def head_of(*, name: str, member_id: NodeId, cluster_id: int) -> bytes:
    """The line that says whose record it is."""
    return _encoded({"kind": RECORD_KIND, "name": name, "member_id": f"{member_id:x}", "cluster_id": f"{cluster_id:x}"})


class FlightRecord:
    """Turns what happens to one node into lines. Belongs to the event loop.

    Args:
        port: where the lines go.
        earlier: lines of earlier runs, oldest first.
        run: this run's incarnation.
        wall: seconds since 1970.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        port: FlightPort | None = None,
        *,
        earlier: Sequence[bytes] = (),
        run: int = 0,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port = port if port is not None else Memory()
        self._run = run
        self._wall = wall
        self._clock = clock
        self._began = clock()
        self._previous = _last_event(earlier)
        self._seq = int(self._previous.get("seq", 0))
        self._names: dict[NodeId, str] = {}
        self._repeats: dict[str, _Repeat] = {}
        self._heard: dict[NodeId, float] = {}
        self._lags: deque[tuple[float, float]] = deque()
        self._links: Callable[[], Mapping[NodeId, str | None]] = dict
        self._sync_since: Callable[[], float | None] = lambda: None
        self._membership: Membership | None = None
        self._has_failed = False

    def observe(self, raft: Raft, *, tick_s: float, name_of: Callable[[NodeId], str]) -> None:
        """Whose events these will be."""
        self._raft = raft
        self._tick_ms = tick_s * 1000
        self._ask_name = name_of
        self._membership = raft.membership

    def attach(
        self, *, links: Callable[[], Mapping[NodeId, str | None]], sync_since: Callable[[], float | None]
    ) -> None:
        """Where evidence is found: each peer's link (None: up, else why not); when the log's sync in flight began."""
        self._links = links
        self._sync_since = sync_since

    def lines(self, bytes_max: int) -> tuple[list[bytes], bool]:
        """The newest lines within a bound, oldest first; and whether there are older ones."""
        lines = self._port.lines(bytes_max)
        return lines, len(self._port.lines(EVERYTHING)) > len(lines)

    # --- the life of the process ----------------------------------------------------------------------------------------

    def started(self) -> None:
        raft = self._raft
        self._write(
            "start",
            version=__version__,
            pid=os.getpid(),
            last_index=raft.last_index,
            applied_index=raft.applied_index,
            previous=self._how_it_ended(),
            **self._members(raft.membership),
        )

    def stopping(self) -> None:
        """Somebody wants the node to stop; leadership is handed over first."""
        if not self._has_failed:
            self._write("stopping")

    def stopped(self) -> None:
        """Everything that was promised is on disk, everybody has been answered."""
        if not self._has_failed:
            self._write("stopped")

    def failed(self, error: BaseException) -> None:
        self._has_failed = True
        self._write("failed", error=f"{type(error).__name__}: {error}"[:TEXT_CHARACTERS_MAX])

    def _how_it_ended(self) -> dict[str, Any] | None:
        """In `start`: how the run before ended. None: this is the first that is on record."""
        last = self._previous
        if not last:
            return None
        ends = {"stopped": "stopped", "failed": "failed"}
        return {
            "ended": ends.get(str(last.get("kind")), "without a stop"),
            "at": last.get("at"),
            "run": last.get("run"),
        }

    # --- what the node sees ---------------------------------------------------------------------------------------------

    def heard(self, messages: Sequence[Message]) -> None:
        if messages:
            self._heard[messages[0].sender] = self._clock()

    def peer_connected(self, node: NodeId) -> None:
        self._record("peer", peer=self._name_of(node), state="connected")

    def peer_lost(self, node: NodeId, reason: str) -> None:
        self._record(
            "peer",
            peer=self._name_of(node),
            state="lost",
            reason=reason[:TEXT_CHARACTERS_MAX],
            heard_ms=self._heard_ms(node),
        )

    def peer_dead(self, node: NodeId, reason: str) -> None:
        self._record("peer", peer=self._name_of(node), state="dead", reason=reason, heard_ms=self._heard_ms(node))

    def ticked(self, lag_s: float) -> None:
        """A tick came so late."""
        now = self._clock()
        if self._lags and self._lags[0][0] < now - LAG_WINDOW_S:
            self._lags.popleft()
        if lag_s > self._tick_ms / 1000:
            self._lags.append((now, lag_s))
        if lag_s >= HELD_UP_S:
            self._record("held-up", lag_ms=_ms(lag_s))

    def snapshot(self, state: str, *, peer: NodeId = NO_NODE, index: int, reason: str = "") -> None:
        """One was `sent` to or `failed` to reach a peer, or was `installed` here."""
        self._record(
            "snapshot", state=state, index=index, peer=self._name_of(peer) if peer else "", reason=reason or None
        )

    def note(self, kind: str, **fields: Any) -> None:
        """Anything else: a health change, a drill. Fields are plain values; those without one are left out."""
        self._record(kind, **fields)

    # --- what the core tells --------------------------------------------------------------------------------------------

    def noticed(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            self._notice(notice)
        membership = self._raft.membership
        if membership is not self._membership:  # Asked with every Ready: an equal one is rare enough to be compared.
            before, self._membership = self._membership, membership
            if membership != before:
                self._record("members", **self._members(membership))

    def leader_changed(self, state: SoftState) -> None:
        if state.leader != NO_NODE:
            self._record("leader", leader=self._name_of(state.leader), role=state.role.value)
        elif state.role is RoleName.FOLLOWER:  # Else the campaign has been recorded, and says it.
            self._record("no-leader")

    def _notice(self, notice: Notice) -> None:
        match notice:
            case Campaigned():
                self._record(
                    "campaign",
                    for_term=notice.term,
                    pre_vote=notice.is_pre_vote,
                    cause=notice.cause.value,
                    leader=self._name_or_none(notice.leader),
                    silent_ms=round(notice.silent_ticks * self._tick_ms),
                    **(self._evidence() if notice.is_pre_vote else {}),
                )
            case VoteAnswered():
                self._record(
                    "answer",
                    candidate=self._name_of(notice.candidate),
                    for_term=notice.term,
                    pre_vote=notice.is_pre_vote,
                    granted=notice.refusal is None,
                    **self._objection(notice),
                )
            case VoteCounted(voter, term, is_pre_vote, is_granted):
                self._record(
                    "counted", voter=self._name_of(voter), for_term=term, pre_vote=is_pre_vote, granted=is_granted
                )
            case SteppedDown():
                self._record(
                    "step-down",
                    role=notice.role,
                    from_term=notice.term,
                    cause=notice.cause.value,
                    by=self._name_or_none(notice.by),
                    later_term=notice.later_term if notice.later_term > notice.term else None,
                    **(self._evidence() if notice.role == RoleName.LEADER.value else {}),
                )
            case LeaderResigned(leader):
                self._record("resigned", leader=self._name_of(leader))
            case TransferBegun(target):
                self._record("transfer", state="begun", target=self._name_of(target))
            case TransferGivenUp(target):
                self._record("transfer", state="given-up", target=self._name_of(target))

    def _objection(self, notice: VoteAnswered) -> dict[str, Any]:
        match notice.refusal:
            case None:
                return {}
            case Refusal.LEADER_HEARD:
                details: dict[str, Any] = {
                    "leader": self._name_or_none(notice.leader),
                    "silent_ms": round(notice.silent_ticks * self._tick_ms),
                }
            case Refusal.VOTED:
                details = {"vote": self._name_or_none(notice.vote), "leader": self._name_or_none(notice.leader)}
            case Refusal.LOG_BEHIND:
                details = {"candidate_last": list(notice.candidate_last), "own_last": list(notice.own_last)}
            case _:
                details = {}
        return {"refusal": notice.refusal.value, **details}

    # --- names and evidence -------------------------------------------------------------------------------------------------------

    def _evidence(self) -> dict[str, Any]:
        since = self._sync_since()
        return {
            "links": {self._name_of(node): "up" if why is None else why for node, why in sorted(self._links().items())},
            "heard_ms": {self._name_of(node): self._heard_ms(node) for node in sorted(self._heard)},
            "loop_lag_ms": _ms(max((lag for _, lag in self._lags), default=0.0)),
            "fsync_ms": None if since is None else _ms(self._clock() - since),
        }

    def _heard_ms(self, node: NodeId) -> int | None:
        heard = self._heard.get(node)
        return None if heard is None else _ms(self._clock() - heard)

    def _members(self, membership: Membership) -> dict[str, Any]:
        groups = {
            "voters": membership.voters,
            "learners": membership.learners,
            "outgoing_voters": membership.outgoing_voters,
        }
        return {name: [self._name_of(node) for node in sorted(group)] for name, group in groups.items() if group}

    def _name_of(self, node: NodeId) -> str:
        """Its name; of a member that was removed the one it had."""
        name = self._ask_name(node)
        if name != f"{node:x}":
            self._names[node] = name
        return self._names.get(node, name)

    def _name_or_none(self, node: NodeId) -> str | None:
        return self._name_of(node) if node else None

    # --- lines ----------------------------------------------------------------------------------------------------------

    def _record(self, kind: str, **fields: Any) -> None:
        """Write an event, unless it is old news."""
        again = self._times_again(kind, fields)
        if again is not None:
            self._write(kind, **fields, again=again or None)

    def _write(self, kind: str, **fields: Any) -> None:
        self._seq += 1
        event = {
            "seq": self._seq,
            "run": self._run,
            "at": round(self._wall(), 4),
            "up": round(self._clock() - self._began, 4),
            "kind": kind,
            "term": self._raft.term,
        }
        event |= {name: value for name, value in fields.items() if value is not None}
        self._port.append(_encoded(event))

    def _times_again(self, kind: str, fields: Mapping[str, Any]) -> int | None:
        """How often this came unrecorded since it was last recorded; None: it is not recorded now either."""
        now = self._clock()
        key = _encoded({"": kind, **{n: v for n, v in fields.items() if n not in _VOLATILE}}).decode()
        repeat = self._repeats.pop(key, None)
        if repeat is None or now - repeat.seen_at > QUIET_S:
            self._repeats[key] = _Repeat(now)
            if len(self._repeats) > REPEATS_MAX:
                del self._repeats[next(iter(self._repeats))]
            return 0
        self._repeats[key] = repeat  # The one that was seen last stands last.
        repeat.seen_at = now
        repeat.count += 1
        if repeat.count > BURST and now < repeat.next_at:
            repeat.again += 1
            return None
        if repeat.count >= BURST:
            repeat.next_at = now + repeat.pause_s
            repeat.pause_s = min(2 * repeat.pause_s, PAUSE_MAX_S)
        again, repeat.again = repeat.again, 0
        return again


def _last_event(lines: Sequence[bytes]) -> dict[str, Any]:
    """The last whole event of earlier runs; empty if there is none."""
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # Cut by a crash.
        if isinstance(event, dict) and isinstance(event.get("seq"), int):
            return event
    return {}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _encoded(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":"), default=str).encode()
