"""Incidents in plain words: one sentence for each failover, a few lines for how it went, one line for any event.

    n1 died; n3 led term 8 after 31 ms
        14:02:03.120  n2 and n3 lost n1 (connection closed, then it refused connections); last heard 57 ms before
        14:02:03.131  n3 asked whether it would get votes for term 8: n1 is gone; n2 would vote for it
        14:02:03.136  n3 asked for votes for term 8; n2 voted for it
        14:02:03.151  n3 leads term 8; n2 knew 1 ms later

What may not live here: deciding what was the cause (`incidents`), colours, output.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from raftkv.lab.explanation import DEAF, Cause, Failover
from raftkv.lab.incidents import Absence
from raftkv.lab.timeline import Placed

_SILENCES = frozenset({Cause.HUNG, Cause.CUT_OFF, Cause.SILENT, Cause.SICK})
TOGETHER_S = 0.5
"""What several nodes saw of one peer within this is told in one line."""

_REASONS = (
    (re.compile(r"connection reset|ECONNRESET", re.I), "connection reset"),
    (re.compile(r"connection refused", re.I), "connection refused"),
    (
        re.compile(r"connection was closed|socket closed|stream removed|cancelling all calls|transport closed", re.I),
        "connection closed",
    ),
    (re.compile(r"keepalive|ping timeout", re.I), "no answer to pings"),
    (re.compile(r"timed? ?out|deadline", re.I), "timed out"),
    (re.compile(r"refuses connections", re.I), "redial refused"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a story; `contradicts`: its place was decided by messages, against the clocks."""

    at: float
    text: str
    contradicts: bool = False


def duration(seconds: float) -> str:
    """`31 ms`, `1.14 s`, `3 min 12 s`, `5 h 2 min`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.0095 or seconds == 0 else f"{seconds * 1000:.1f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def counted(count: int, one: str, many: str) -> str:
    """`1 line is`, `3 lines are`."""
    return f"{count} {one if count == 1 else many}"


def names(nodes: Iterable[str]) -> str:
    """`n1`, `n1 and n2`, `n1, n2 and n3`."""
    ordered = sorted(set(nodes))
    return " and ".join([", ".join(ordered[:-1]), ordered[-1]] if len(ordered) > 1 else ordered)


def reason(text: str) -> str:
    """A connection's end, in words that do not depend on the library."""
    return next((words for pattern, words in _REASONS if pattern.search(text)), text)


# --- one sentence -----------------------------------------------------------------------------------------------------


def headline(failover: Failover) -> str:
    """What happened, who leads, and after how long."""
    what = _what(failover)
    if not failover.leader:
        return f"{what}; nobody has led since"
    if failover.cause is Cause.STARTED:
        return f"{what}; {failover.leader} led term {failover.term}"
    again = " again" if failover.leader == failover.previous else ""
    took = "" if failover.outage_s is None else f" after {duration(failover.outage_s)}"
    split = "" if failover.terms <= 1 else f" (it took {failover.terms} terms)"
    return f"{what}; {failover.leader} led{again} term {failover.term}{took}{split}"


def _what(failover: Failover) -> str:
    old = failover.previous
    match failover.cause:
        case Cause.STARTED:
            return "all nodes had gone down and started again" if old else "the cluster started"
        case Cause.DIED:
            return f"{old} died"
        case Cause.FAILED:
            return f"{old} stopped by itself ({failover.detail})"
        case Cause.STOPPED:
            return f"{old} was stopped {failover.detail}".rstrip()
        case Cause.SICK:
            return f"{old} was not fit to lead ({failover.detail})"
        case Cause.MOVED:
            return f"{old} handed over on request"
        case Cause.HUNG:
            return f"{old} stood still for {duration(failover.stood_still_s or 0.0)}"
        case Cause.CUT_OFF:
            return f"{old} was cut off" + (f" ({failover.detail})" if failover.detail else "")
        case Cause.SILENT:
            return f"{old} fell silent (hung or cut off)"
        case Cause.REMOVED:
            return f"{old} was removed"
        case Cause.UNKNOWN:
            return f"{old} did not lead any more (the records do not say why)"


def absence(one: Absence) -> str:
    """A member that was away."""
    if one.is_end_told and one.back_at is not None:
        return f"{one.node} is back after {duration(one.back_at - one.began_at)}"
    how = {"died": "died", "stopped": "was stopped", "failed": f"stopped by itself ({one.detail})"}[one.how]
    back = "it has not come back" if one.back_at is None else f"back after {duration(one.back_at - one.began_at)}"
    return f"{one.node} {how}; {back}"


# --- a few lines ------------------------------------------------------------------------------------------------------


def story(failover: Failover) -> list[Line]:
    """How it went, with what several nodes saw of the same thing in one line."""
    told: set[int] = set()
    lines = _last_word(failover)
    events = failover.events
    for position, event in enumerate(events):
        if position in told:
            continue
        rest = [(at, events[at]) for at in range(position, len(events)) if at not in told]
        match event.kind:
            case "peer" if event.get("state") in ("lost", "dead"):
                text, used = _lost(event, rest)
            case "campaign":
                text, used = _poll(event, rest)
            case "leader":
                text, used = _leads(event, rest, failover)
            case "answer" | "counted" | "no-leader":
                continue  # Told with the campaign, or implied by it.
            case _:
                text, used = sentence(event), [position]
        told.update(used)
        lines.append(Line(event.at, text, event.contradicts))
    return lines


def _last_word(failover: Failover) -> list[Line]:
    """A silence has no event at its beginning: it is told from what was found later."""
    if failover.outage_s is None or failover.cause not in _SILENCES or failover.began_at >= failover.events[0].at:
        return []
    if failover.detail == DEAF:
        return [Line(failover.began_at, f"{failover.previous} last heard from a quorum")]
    return [Line(failover.began_at, f"{failover.previous} was last heard by {failover.leader}")]


def _lost(event: Placed, rest: Sequence[tuple[int, Placed]]) -> tuple[str, list[int]]:
    """Everybody's loss of the same peer."""
    peer = event.get("peer")
    same = [
        (at, one)
        for at, one in rest
        if one.kind == "peer"
        and one.get("peer") == peer
        and one.get("state") in ("lost", "dead")
        and one.at - event.at <= TOGETHER_S
    ]
    lost = [one for _, one in same if one.get("state") == "lost"] or [one for _, one in same]
    evidence = sorted({reason(str(one.get("reason", ""))) for one in lost if one.get("state") == "lost"})
    dead = [one.node for _, one in same if one.get("state") == "dead"]
    if dead:
        evidence.append(f"redial refused to {names(dead)}")
    heard = [one.get("heard_ms") for one in lost if one.get("heard_ms") is not None]
    last = f"; last heard {duration(min(heard) / 1000)} before" if heard else ""
    return f"{names(one.node for one in lost)} lost {peer} ({', '.join(evidence)}){last}", [at for at, _ in same]


def _poll(event: Placed, rest: Sequence[tuple[int, Placed]]) -> tuple[str, list[int]]:
    """A question for votes, with the answers to it."""
    poll = (event.get("for_term"), bool(event.get("pre_vote")))
    used = [at for at, one in rest if one is event]
    answers: dict[str, str] = {}
    for at, one in rest:
        if (one.get("for_term"), bool(one.get("pre_vote"))) != poll:
            continue
        if one.kind == "answer" and one.get("candidate") == event.node:
            answers[one.node] = _verdict(one)
            used.append(at)
        elif one.kind == "counted" and one.node == event.node:
            voter = str(one.get("voter"))
            answers.setdefault(voter, "granted" if one.get("granted") else "refused")
            used.append(at)
        elif one.kind == "campaign" and one.node == event.node and one is not event:
            used.append(at)  # Asked again; the answers are told once.
    by_answer: dict[str, list[str]] = {}
    for voter, text in answers.items():
        by_answer.setdefault(text, []).append(voter)
    told = [f"{names(voters)} {text}" for text, voters in by_answer.items()]
    return "; ".join([sentence(event), *told]), used


def _leads(event: Placed, rest: Sequence[tuple[int, Placed]], failover: Failover) -> tuple[str, list[int]]:
    """A leader, and who knew it when."""
    same = [(at, one) for at, one in rest if one.kind == "leader" and one.term == event.term]
    leader = event.get("leader")
    own = next((one for _, one in same if one.node == leader), None)
    first = own or event
    text = f"{leader} leads term {event.term}" if own else f"{first.node} knows {leader} as leader of term {event.term}"
    if failover.outage_s is not None and leader == failover.leader and event.term == failover.term:
        text += f", {_since(failover)}"
    known = {one.node: one.at for _, one in reversed(same) if one.node != first.node}
    others = [f"{node} {duration(max(0.0, at - first.at))} later" for node, at in sorted(known.items(), key=_second)]
    if others:
        text += f"; known to {', '.join(others)}"
    return text, [at for at, _ in same]


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def _since(failover: Failover) -> str:
    took = duration(failover.outage_s or 0.0)
    match failover.cause:
        case Cause.DIED | Cause.FAILED:
            return f"{took} after the connection to {failover.previous} broke"
        case Cause.STOPPED | Cause.MOVED | Cause.SICK:
            return f"{took} after {failover.previous} began to hand over"
        case _ if failover.detail == DEAF:
            return f"{took} after {failover.previous} last heard from a quorum"
        case _ if failover.silent_s is not None:
            return f"{took} after the last word of {failover.previous}"
        case _:
            return f"{took} later"


def _verdict(answer: Placed) -> str:
    if answer.get("granted"):
        return "granted"
    match answer.get("refusal"):
        case "leader heard":
            ago = answer.get("silent_ms")
            heard = f" (it heard {answer.get('leader')}" + (
                f" {duration(ago / 1000)} before)" if ago is not None else ")"
            )
            return f"refused{heard}"
        case "voted" if answer.get("vote") == answer.node:
            return "refused (it had voted for itself)"
        case "voted" if answer.get("vote"):
            return f"refused (it had voted for {answer.get('vote')})"
        case "voted":
            return f"refused (it followed {answer.get('leader') or 'a leader'} in that term)"
        case "log behind":
            (index, term), (own, own_term) = answer.get("candidate_last"), answer.get("own_last")
            return f"refused (the candidate's log ends at {index}@{term}, its own at {own}@{own_term})"
        case "earlier term":
            return f"refused (it is at term {answer.term} already)"
        case other:
            return f"refused ({other})" if other else "refused"


# --- one event --------------------------------------------------------------------------------------------------------


def sentence(event: Placed) -> str:
    """Any event, in words; one of a kind that is not known here, with all it says."""
    again = event.get("again")
    text = _TELLERS.get(event.kind, _unknown)(event)
    return f"{text} (and {counted(again, 'more time', 'more times')})" if again else text


def _start(event: Placed) -> str:
    previous = event.get("previous")
    text = f"{event.node} started at term {event.term}"
    if previous is None:
        return text
    if previous.get("ended") == "without a stop":
        return f"{text}; its run before ended without a stop"
    return f"{text}; its run before {'was stopped' if previous.get('ended') == 'stopped' else 'had failed'}"


def _campaign(event: Placed) -> str:
    term = event.get("for_term")
    if not event.get("pre_vote"):
        handed = (
            f" (asked to by {event.get('leader')})" if event.get("cause") == "transfer" and event.get("leader") else ""
        )
        return f"{event.node} asked for votes for term {term}{handed}"
    leader = event.get("leader")
    silent = duration(event.get("silent_ms", 0) / 1000)
    is_connected = (event.get("links") or {}).get(leader) == "up"
    why = {
        "silence": f"nothing heard from {leader or 'any leader'} for {silent}",
        "leader gone": f"{leader or 'the leader'} {'leads no more' if is_connected else 'is gone'}",
        "asked": "at once",
    }.get(str(event.get("cause")), str(event.get("cause")))
    return f"{event.node} asked for pre-votes for term {term} ({why}{_own_trouble(event)})"


def _own_trouble(event: Placed) -> str:
    """What the candidate knew of itself that may explain what it heard, or did not hear."""
    parts = []
    if (lag := event.get("loop_lag_ms", 0)) >= 50:
        parts.append(f"its own loop was {duration(lag / 1000)} late")
    if (sync := event.get("fsync_ms")) is not None and sync >= 50:
        parts.append(f"its own log write was {duration(sync / 1000)} old")
    down = [f"{peer}: {reason(why)}" for peer, why in (event.get("links") or {}).items() if why != "up"]
    if down and event.get("cause") != "leader gone":
        parts.append(f"no connection to {', '.join(down)}")
    return "".join(f"; {part}" for part in parts)


def _answer(event: Placed) -> str:
    what = "a pre-vote" if event.get("pre_vote") else "its vote"
    word, _, why = _verdict(event).partition(" ")
    return f"{event.node} {word} {event.get('candidate')} {what} for term {event.get('for_term')}" + (
        f" {why}" if why else ""
    )


def _counted(event: Placed) -> str:
    what = "pre-vote" if event.get("pre_vote") else "vote"
    word = "has" if event.get("granted") else "was refused"
    return f"{event.node} {word} {event.get('voter')}'s {what} for term {event.get('for_term')}"


def _leader(event: Placed) -> str:
    if event.get("leader") == event.node:
        return f"{event.node} leads term {event.term}"
    return f"{event.node} follows {event.get('leader')} in term {event.term}"


def _step_down(event: Placed) -> str:
    by = event.get("by")
    why = {
        "no quorum": "too few answered within an election timeout",
        "later term": f"{by} is at term {event.get('later_term') or event.term}",
        "leader found": f"{by} leads",
        "removed": "it is no voter any more",
        "refused": "its votes were refused",
        "unfit": "it was not fit to lead",
    }.get(str(event.get("cause")), str(event.get("cause")))
    if event.get("role") == "leader":
        heard = [
            f"{peer} {duration(ms / 1000)}" for peer, ms in (event.get("heard_ms") or {}).items() if ms is not None
        ]
        links = event.get("links") or {}
        if event.get("cause") == "no quorum" and heard:
            why += f"; last heard {', '.join(heard)} before"
            why += ", connections still up" if set(links.values()) == {"up"} else ""
        return f"{event.node} stopped leading term {event.get('from_term')}: {why}{_own_trouble(event)}"
    return f"{event.node} gave up its campaign: {why}"


def _transfer(event: Placed) -> str:
    if event.get("state") == "begun":
        return f"{event.node} began to hand over to {event.get('target')}"
    return f"{event.node} gave up handing over to {event.get('target')}, which did not take over in time"


def _peer(event: Placed) -> str:
    peer, why = event.get("peer"), reason(str(event.get("reason", "")))
    heard = event.get("heard_ms")
    last = "" if heard is None else f"; last heard {duration(heard / 1000)} before"
    match event.get("state"):
        case "connected":
            return f"{event.node} is connected with {peer}"
        case "lost":
            return f"{event.node} lost {peer} ({why}){last}"
        case _:
            return f"{event.node} holds {peer} for dead ({why}){last}"


def _snapshot(event: Placed) -> str:
    index, peer = event.get("index"), event.get("peer")
    match event.get("state"):
        case "sent":
            return f"{event.node} sent {peer} a snapshot at index {index}"
        case "installed":
            return f"{event.node} installed a snapshot at index {index}"
        case _:
            return f"{event.node} could not send {peer} a snapshot: {event.get('reason', 'no reason given')}"


def _members(event: Placed) -> str:
    parts = [f"voters {names(event.get('voters', ()))}"]
    if outgoing := event.get("outgoing_voters"):
        parts.append(f"on the way from {names(outgoing)}")
    if learners := event.get("learners"):
        parts.append(f"learners {names(learners)}")
    return f"{event.node} has a new configuration: {', '.join(parts)}"


def _health(event: Placed) -> str:
    reasons = event.get("reasons")
    if event.get("severity") in (None, "well"):
        return f"{event.node} is well again"
    return f"{event.node} is {event.get('severity')}" + (f": {reasons}" if reasons else "")


def _drill(event: Placed) -> str:
    fault = str(event.get("fault")).lower().replace("_", "-")
    return (
        f"{event.node}: a drill began ({fault})"
        if event.get("state") == "begun"
        else f"{event.node}: the drill is over"
    )


def _unknown(event: Placed) -> str:
    details = ", ".join(f"{name} {value}" for name, value in event.event.fields.items() if name != "up")
    return f"{event.node}: {event.kind}" + (f" ({details})" if details else "")


_TELLERS: dict[str, Callable[[Placed], str]] = {
    "start": _start,
    "stopping": lambda event: f"{event.node} was asked to stop",
    "stopped": lambda event: f"{event.node} stopped in good order",
    "failed": lambda event: f"{event.node} stopped by itself: {event.get('error')}",
    "campaign": _campaign,
    "answer": _answer,
    "counted": _counted,
    "leader": _leader,
    "no-leader": lambda event: f"{event.node} knows no leader",
    "step-down": _step_down,
    "transfer": _transfer,
    "peer": _peer,
    "held-up": lambda event: (
        f"{event.node} goes on after its loop stood still for {duration(event.get('lag_ms', 0) / 1000)}"
    ),
    "snapshot": _snapshot,
    "members": _members,
    "health": _health,
    "reach": lambda event: f"{event.node} is cut off" if event.get("cut_off") else f"{event.node} is back in touch",
    "drill": _drill,
    "resigned": lambda event: f"{event.node} was told by {event.get('leader')} that it leads no more",
}
