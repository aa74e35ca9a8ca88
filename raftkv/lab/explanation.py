"""Why a failover came about, and how long it took: explained backwards from the new leader.

    the leader before ──► what ended it ──► who asked for votes, and why ──► who leads now ──► when others knew
                          (its own record, if there is one, else what the others saw of it)

Durations are taken on one node's clock wherever one node saw both ends: the new leader knows when it last heard from the old
one and when it won. What no record holds is not guessed: a leader that fell silent, and whose record is not at hand, "hung or
was cut off".

What may not live here: finding incidents (`incidents`), sentences (`narration`), clocks (`timeline`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from raftkv.lab.timeline import Placed, Timeline

BEFORE_S = 60.0
"""Signs of trouble older than this before a new leader belong to something else."""
AFTER_S = 3.0
"""So long after a new leader its followers' news of it, and the old leader's end, belong to the same failover."""
STOOD_STILL_S = 0.25
"""A loop that stood still so long, and for half of the silence, explains it."""


UNHEARD = "it was not heard, and heard others"
DEAF = "it heard too few, and was heard"
"""Details of CUT_OFF: which direction was cut."""
HANDED_OVER = "and handed over"
"""Detail of STOPPED: somebody took over before it was gone."""
_OF_A_START = frozenset({"start", "campaign", "answer", "counted", "step-down", "leader"})


class Cause(Enum):
    """What ended the leadership before."""

    STARTED = "started"
    """There was none before, or everybody started anew."""
    DIED = "died"
    """Its process was killed or crashed: connections broke and redials were refused, or it came back without having stopped."""
    FAILED = "failed"
    """It stopped by itself; its record says why."""
    STOPPED = "stopped"
    """It was asked to stop."""
    SICK = "sick"
    """It handed over, or gave up, because something on it did not come back or keep up."""
    MOVED = "moved"
    """Leadership was handed over on request."""
    HUNG = "hung"
    """Its process stood still, and went on later."""
    CUT_OFF = "cut off"
    """It ran on, and was not heard, or heard no quorum."""
    SILENT = "silent"
    """It was not heard any more, and its record is not at hand."""
    REMOVED = "removed"
    """It is no member, or no voter, any more."""
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Leadership:
    """A leader of a term. `position`: in the timeline, of the first event that knows of it; `known`: who knew it when."""

    term: int
    leader: str
    at: float
    position: int
    known: dict[str, float] = field(default_factory=dict)
    is_own: bool = False
    """`at` is the leader's own word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """One change of leader. Times are the timeline's, durations in seconds.

    Attributes:
        previous: who led before; empty if nobody did.
        leader: who leads now; empty if nobody does: it is still going on.
        term: the new leader's, or the one that was last asked for.
        began_at: the beginning of the outage, or the first sign of it.
        led_at: when the new leader led.
        outage_s: from the last sign of the old leader, as the new one saw it, until that led.
        known_s: from then until the last of those whose record is at hand knew.
        stood_still_s: how long the old leader's process stood still; None: it did not.
        silent_s: for how long nobody had heard the old one when votes were first asked for.
        terms: how many terms it took; more than 1 if votes were split or a candidate failed.
        events: everything that belongs to it, in order.
    """

    cause: Cause
    previous: str
    leader: str
    term: int
    began_at: float
    led_at: float | None
    outage_s: float | None = None
    known_s: float | None = None
    stood_still_s: float | None = None
    silent_s: float | None = None
    terms: int = 1
    detail: str = ""
    events: tuple[Placed, ...] = ()


def explain(timeline: Timeline, previous: Leadership | None, current: Leadership | None, end: int) -> Failover:
    """The failover between two leaders; `current` None: nobody has led since. `end`: where the next one begins."""
    return _Explanation(timeline, previous, current, end).failover()


class _Explanation:
    """The events between two leaders (`before`), and those after the new one until the next failover (`after`)."""

    def __init__(self, timeline: Timeline, previous: Leadership | None, current: Leadership | None, end: int) -> None:
        self._old = previous.leader if previous else ""
        self._previous = previous
        self._current = current
        self._nodes = set(timeline.nodes)
        start = previous.position if previous else 0
        stop = current.position if current else end
        self._stop_at = current.at if current else timeline.events[-1].at
        self._whole_before = [
            event for event in timeline.events[start:stop] if current is None or event.at >= self._stop_at - BEFORE_S
        ]
        self._before = [event for event in self._whole_before if not self._is_news_of_previous(event)]
        self._after = timeline.events[stop:end]
        self._until_new = timeline.events[:stop]

    def failover(self) -> Failover:
        current = self._current
        cause, detail = self._cause()
        events = self._story(cause)
        silent_s = self._silence()
        outage_s = self._outage(cause, silent_s)
        began_at = events[0].at if events else self._stop_at
        polls = [int(event.get("for_term", 0)) for event in self._before if event.kind == "campaign"]
        return Failover(
            cause=cause,
            detail=detail,
            previous=self._old,
            leader=current.leader if current else "",
            term=current.term if current else max(polls, default=0),
            began_at=min(began_at, self._stop_at - outage_s) if current and outage_s is not None else began_at,
            led_at=current.at if current else None,
            outage_s=outage_s,
            known_s=self._known(),
            stood_still_s=self._stood_still(),
            silent_s=silent_s,
            terms=current.term - (self._previous.term if self._previous else 0) if current else 0,
            events=tuple(events),
        )

    # --- why ----------------------------------------------------------------------------------------------------------

    def _cause(self) -> tuple[Cause, str]:
        """The old leader's own word first, then what the others saw of it."""
        if not self._old or self._everybody_started():
            return Cause.STARTED, ""
        if failed := self._of_old("failed"):
            return Cause.FAILED, str(failed[-1].get("error", ""))
        if self._of_old("stopping"):
            return Cause.STOPPED, HANDED_OVER if self._campaigns("transfer") else ""
        sickness = self._sickness()
        if self._campaigns("transfer"):
            return (Cause.SICK, sickness) if sickness else (Cause.MOVED, "")
        if self._is_dead():
            return Cause.DIED, ""
        if self._stood_still() is not None:
            return Cause.HUNG, ""
        if sickness:
            return Cause.SICK, sickness
        cause = self._why_it_stepped_down()
        return cause, self._direction() if cause is Cause.CUT_OFF else ""

    def _why_it_stepped_down(self) -> Cause:
        own = [*self._of_old("step-down"), *(event for event in self._first_words() if event.kind == "step-down")]
        causes = {event.get("cause") for event in own if event.get("role") == "leader"}
        if "removed" in causes:
            return Cause.REMOVED
        if "unfit" in causes:
            return Cause.SICK
        if causes & {"no quorum", "later term"}:
            return Cause.CUT_OFF
        return Cause.SILENT if self._campaigns("silence") else Cause.UNKNOWN

    def _direction(self) -> str:
        """Of a cut: whether the old leader heard others that did not hear it, or was heard by others it did not hear."""
        poll = self._first_poll()
        if poll is not None and any(event.at >= poll.at for event in self._of_old("answer")):
            return UNHEARD
        if any(event.kind == "resigned" for event in self._before):
            return DEAF
        return ""

    def _everybody_started(self) -> bool:
        started = {event.node for event in self._before if event.kind == "start"}
        return len(self._nodes) > 1 and started == self._nodes

    def _is_dead(self) -> bool:
        """Somebody has evidence of its death, or it started again without having stopped."""
        starts = [*self._of_old("start"), *(event for event in self._first_words() if event.kind == "start")]
        return any(self._is_loss(event, "dead") for event in self._before) or any(
            (event.get("previous") or {}).get("ended") == "without a stop" for event in starts
        )

    def _stood_still(self) -> float | None:
        """The old leader's loop stood still while the others elected: it tells so itself, once it goes on."""
        silent_s = self._silence() or 0.0
        for event in [*self._of_old("held-up"), *self._first_words()]:
            lag_s = float(event.get("lag_ms", 0)) / 1000
            is_then = self._stop_at - silent_s - lag_s - 1.0 <= event.at - lag_s <= self._stop_at
            if event.kind == "held-up" and is_then and lag_s >= max(STOOD_STILL_S, silent_s / 2):
                return lag_s
        return None

    def _first_words(self) -> Iterator[Placed]:
        """What the old leader has to say after the new one leads, up to where it follows somebody, or asks for votes."""
        for event in self._after:
            if event.node == self._old:
                yield event
                if event.kind in ("leader", "campaign", "start"):
                    return

    def _sickness(self) -> str:
        """What the old leader last said of its health, if that was bad; perhaps before it led."""
        for event in reversed(self._until_new):
            if event.node == self._old and event.kind in ("health", "start"):
                severity = event.get("severity")
                return "" if severity in (None, "well") else str(event.get("reasons") or severity)
        return ""

    # --- how long -----------------------------------------------------------------------------------------------------

    def _outage(self, cause: Cause, silent_s: float | None) -> float | None:
        """On the new leader's clock as far as possible. None: not known."""
        current = self._current
        if current is None or not self._old or cause is Cause.STARTED:
            return None
        begun = [event for event in self._of_old("transfer") if event.get("state") == "begun"]
        if begun and self._campaigns("transfer"):
            return max(0.0, current.at - begun[-1].at)
        lost = [event for event in self._before if self._is_loss(event, "lost") and self._is_lasting(event)]
        if cause in (Cause.DIED, Cause.FAILED, Cause.STOPPED) and lost:
            own = [event for event in lost if event.node == current.leader]
            return max(0.0, current.at - (own or lost)[0].at)
        poll = self._first_poll()
        unheard_s = self._unheard()
        if poll is not None and silent_s is not None:
            return max(0.0, current.at - poll.at + silent_s, unheard_s)
        if unheard_s:
            return unheard_s
        ended = [*self._of_old("step-down"), *self._of_old("failed")]
        return max(0.0, current.at - ended[0].at) if ended else None

    def _silence(self) -> float | None:
        """For how long the old leader had not been heard when votes were first asked for."""
        poll = self._first_poll()
        if poll is None or not self._old:
            return None
        heard_ms = (poll.get("heard_ms") or {}).get(self._old)
        if heard_ms is None and poll.get("leader") == self._old:
            heard_ms = poll.get("silent_ms")
        return None if heard_ms is None else float(heard_ms) / 1000

    def _unheard(self) -> float:
        """How long before the new leader the old one last heard from a quorum, in its own words; 0 if it does not say."""
        for event in [*self._of_old("step-down"), *self._first_words()]:
            if event.kind == "step-down" and event.get("cause") == "no quorum" and self._current:
                heard_ms = sorted(float(ms) for ms in (event.get("heard_ms") or {}).values() if ms is not None)
                needed = len(event.get("links") or {}) + 1
                others = needed // 2  # A quorum but for the leader itself.
                if 0 < others <= len(heard_ms):
                    return max(0.0, self._current.at - event.at + heard_ms[others - 1] / 1000)
        return 0.0

    def _first_poll(self) -> Placed | None:
        """The new leader's first question since it lost the old one; somebody else's, if its record is not at hand."""
        polls = [event for event in self._before if event.kind == "campaign" and self._is_lasting(event)]
        polls = [event for event in polls if event.get("cause") not in ("transfer", "pre-votes")]
        own = [event for event in polls if self._current and event.node == self._current.leader]
        return next(iter(own or polls), None)

    def _known(self) -> float | None:
        current = self._current
        if current is None:
            return None
        restarted = {event.node for event in self._after if event.kind == "start"}
        others = [at for node, at in current.known.items() if node not in restarted and node != current.leader]
        return max(0.0, max(others) - current.at) if others else None

    # --- which events -------------------------------------------------------------------------------------------------

    def _story(self, cause: Cause) -> list[Placed]:
        """From the first sign of trouble to the old leader's first words afterwards."""
        if cause is Cause.STARTED:
            last_starts = {event.node: at for at, event in enumerate(self._before) if event.kind == "start"}
            first = min(last_starts.values(), default=0)
            before = [event for event in self._before[first:] if event.kind in _OF_A_START]
        else:
            first = next((at for at, event in enumerate(self._before) if self._is_sign(event)), len(self._before))
            before = [event for event in self._before[first:] if self._is_relevant(event)]
        words = {event.event.key for event in self._first_words() if event.kind in ("held-up", "step-down", "start")}
        restarted: set[str] = set()
        after = []
        for event in self._after:
            if event.kind == "start":
                restarted.add(event.node)
            is_news = event.at <= self._stop_at + AFTER_S and event.node not in restarted
            if event.event.key in words or (is_news and self._is_consequence(event)):
                after.append(event)
        return [*before, *after]

    def _is_sign(self, event: Placed) -> bool:
        match event.kind:
            case "peer":
                return (self._is_loss(event, "lost") or self._is_loss(event, "dead")) and self._is_lasting(event)
            case "stopping" | "stopped" | "failed" | "transfer" | "start" | "drill":
                return event.node == self._old
            case "held-up":
                return event.node == self._old and float(event.get("lag_ms", 0)) / 1000 == self._stood_still()
            case "step-down":
                return event.node == self._old and event.get("role") == "leader"
            case "health":
                return event.node == self._old and event.get("severity") not in (None, "well")
            case "campaign":
                return self._is_lasting(event)
            case _:
                return False

    def _is_relevant(self, event: Placed) -> bool:
        """Between the first sign and the new leader: what has to do with who leads."""
        match event.kind:
            case "peer":
                return self._is_loss(event, "lost") or self._is_loss(event, "dead")
            case "held-up":
                return float(event.get("lag_ms", 0)) / 1000 >= STOOD_STILL_S and self._is_sign(event)
            case "start":
                return event.node == self._old
            case "snapshot" | "members":
                return False
            case _:
                return True

    def _is_consequence(self, event: Placed) -> bool:
        match event.kind:
            case "leader":
                return self._current is not None and event.term == self._current.term
            case "stopped" | "failed":
                return event.node == self._old and not self._of_old("start")
            case _:
                return False

    def _is_loss(self, event: Placed, state: str) -> bool:
        return event.kind == "peer" and event.get("state") == state and event.get("peer") == self._old

    def _is_lasting(self, event: Placed) -> bool:
        """The node that tells of it neither heard the old leader again nor got its connection back."""
        behind = False
        for later in self._whole_before:
            if later is event:
                behind = True
            elif behind and later.node == event.node:
                if later.kind == "peer" and later.get("peer") == self._old and later.get("state") == "connected":
                    return False
                if self._is_news_of_previous(later):
                    return False
        return True

    def _is_news_of_previous(self, event: Placed) -> bool:
        return self._previous is not None and event.kind == "leader" and event.term == self._previous.term

    def _of_old(self, kind: str) -> Sequence[Placed]:
        return [event for event in self._before if event.node == self._old and event.kind == kind]

    def _campaigns(self, cause: str) -> Sequence[Placed]:
        return [event for event in self._before if event.kind == "campaign" and event.get("cause") == cause]
