"""From a timeline to incidents: every change of leader, and every member that was away.

A failover is found by its end, a node that leads a new term; `explanation` tells why it came about. One that has not ended is
found by the state in which all records end: nobody knows a leader.

What may not live here: causes (`explanation`), sentences (`narration`), clocks (`timeline`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raftkv.lab.explanation import AFTER_S, Failover, Leadership, explain
from raftkv.lab.timeline import Placed, Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """A member that was away. `back_at` None: it has not come back; `how`: it `died`, was `stopped`, or `failed`."""

    node: str
    began_at: float
    back_at: float | None
    how: str
    detail: str = ""
    is_end_told: bool = False
    """How it ended is the story of a failover; its return is news."""

    @property
    def at(self) -> float:
        """Where it belongs in a list."""
        return self.back_at if self.is_end_told and self.back_at is not None else self.began_at


_GROUPS = ("voters", "outgoing_voters", "learners")


def failovers(timeline: Timeline) -> list[Failover]:
    """Every change of leader, oldest first; the last one may still be going on."""
    found: list[Failover] = []
    previous: Leadership | None = None
    leaderships = _leaderships(timeline.events)
    for position, current in enumerate(leaderships):
        end = leaderships[position + 1].position if position + 1 < len(leaderships) else len(timeline.events)
        # Where the records begin in the middle of things, their first leader came about in a way that they do not tell.
        if previous is not None or any(event.kind == "start" for event in timeline.events[: current.position]):
            found.append(explain(timeline, previous, current, end))
        previous = current
    if previous is not None and _is_leaderless(timeline):
        found.append(explain(timeline, previous, None, len(timeline.events)))
    return found


def absences(timeline: Timeline, known: Sequence[Failover] = ()) -> list[Absence]:
    """Who was away, oldest first; of leaders whose end is the story of a failover in `known` at most the return."""
    away: dict[str, Absence] = {}
    found: list[Absence] = []
    members: set[str] = set()
    for event in timeline.events:
        peer = str(event.get("peer"))
        match event.kind:
            case "start" | "members" if event.get("voters"):
                members = {node for group in _GROUPS for node in event.get(group, ())}
        match event.kind:
            case "peer" if event.get("state") == "dead" and (peer in members or not members):
                away.setdefault(peer, Absence(node=peer, began_at=event.at, back_at=None, how="died"))
            case "stopped" | "failed":  # Its own word counts for more than what others saw of it.
                since = away[event.node].began_at if event.node in away else event.at
                detail = str(event.get("error", ""))
                away[event.node] = Absence(node=event.node, began_at=since, back_at=None, how=event.kind, detail=detail)
            case "start" if event.node in away:
                found.append(replace(away.pop(event.node), back_at=event.at))
            case "peer" if event.get("state") == "connected" and peer in away and peer not in timeline.nodes:
                found.append(replace(away.pop(peer), back_at=event.at))
    untold: list[Absence] = []
    for one in (*found, *away.values()):
        story = next((failover for failover in known if _is_its_end(failover, one)), None)
        if story is None:
            untold.append(one)
        elif one.back_at is not None and not _tells_of_return(story, one):
            untold.append(replace(one, is_end_told=True))
    return sorted(untold, key=lambda one: one.at)


def _is_its_end(failover: Failover, absence: Absence) -> bool:
    end = failover.led_at if failover.led_at is not None else absence.began_at
    return failover.previous == absence.node and failover.began_at <= absence.began_at <= end + AFTER_S


def _tells_of_return(failover: Failover, absence: Absence) -> bool:
    return any(event.kind == "start" and event.node == absence.node for event in failover.events)


def _leaderships(events: Sequence[Placed]) -> list[Leadership]:
    """By term; the leader's own word for when it led, if its record is at hand."""
    found: dict[int, Leadership] = {}
    for position, event in enumerate(events):
        if event.kind != "leader":
            continue
        leader = str(event.get("leader"))
        one = found.setdefault(event.term, Leadership(event.term, leader, event.at, position))
        one.known.setdefault(event.node, event.at)
        if event.node == leader and not one.is_own:
            one.at, one.is_own = event.at, True
    return [found[term] for term in sorted(found)]


def _is_leaderless(timeline: Timeline) -> bool:
    """Whether those who still run, as far as the records tell, all know no leader."""
    runs: dict[str, bool] = {}
    knows: dict[str, bool] = {}
    for event in timeline.events:
        match event.kind:
            case "stopped" | "failed":
                runs[event.node] = False
            case "peer" if event.get("state") == "dead":  # Without a word: its record still knows a leader.
                runs[str(event.get("peer"))] = False
            case "start":
                runs[event.node], knows[event.node] = True, False
            case "leader":
                runs[event.node], knows[event.node] = True, True
            case "no-leader" | "campaign" | "step-down":
                knows[event.node] = False
    living = [node for node in timeline.nodes if runs.get(node, False)]
    return bool(living) and not any(knows.get(node, False) for node in living)
