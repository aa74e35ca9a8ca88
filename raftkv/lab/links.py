"""What may happen to the traffic between two nodes, and how to ask the proxy for it.

Rules are about *traffic*: the bytes that flow from one node to another, whoever dialled. A link that is silently cut one way
lets the bytes of the other way through.

What may not live here: sockets between nodes (``proxy.py``).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from raftkv.lab.errors import LabError
from raftkv.lab.ports import LOOPBACK

_ANSWER_DEADLINE_S = 5.0


class Mode(Enum):
    """OPEN passes bytes. CUT holds them, silently, until the cut is healed. RESET breaks connections at once."""

    OPEN = "open"
    CUT = "cut"
    RESET = "reset"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What happens to the bytes from one node to another."""

    mode: Mode = Mode.OPEN
    delay_s: float = 0.0


OPEN = Rule()
Rules = Mapping[tuple[str, str], Rule]  # (from, to) -> rule; a pair that is missing is open


def parse_groups(text: str, names: Sequence[str]) -> list[list[str]]:
    """Groups of nodes written as ``n1|n2,n3``. Nodes that are not named form a group of their own.

    Raises:
        LabError: a name is unknown or stands twice, or there are not two groups.
    """
    groups = [[name.strip() for name in group.split(",") if name.strip()] for group in text.split("|")]
    named = [name for group in groups for name in group]
    for name in named:
        if name not in names:
            raise LabError(f"no node {name!r} in this cluster; it has {', '.join(names)}")
        if named.count(name) > 1:
            raise LabError(f"node {name} stands twice in {text!r}")
    groups = [group for group in groups if group]
    rest = [name for name in names if name not in named]
    if rest and named:
        groups.append(rest)
    if len(groups) < 2:
        raise LabError(f"a partition needs at least two groups, as in 'n1|n2,n3'; got {text!r}")
    return groups


def partition_rules(groups: Sequence[Sequence[str]], *, mode: Mode = Mode.CUT) -> dict[tuple[str, str], Rule]:
    """Cut everything between nodes of different groups, both ways."""
    side = {name: number for number, group in enumerate(groups) for name in group}
    return {(a, b): Rule(mode=mode) for a in side for b in side if side[a] != side[b]}


def one_way_rules(sources: Iterable[str], targets: Iterable[str]) -> dict[tuple[str, str], Rule]:
    """Cut the bytes from sources to targets; those from targets to sources still flow."""
    to = list(targets)
    return {(a, b): Rule(mode=Mode.CUT) for a in sources for b in to if a != b}


def rules_to_wire(rules: Rules) -> list[dict[str, Any]]:
    return [
        {"from": a, "to": b, "mode": rule.mode.value, "delay_s": rule.delay_s}
        for (a, b), rule in sorted(rules.items())
        if rule != OPEN
    ]


def rules_from_wire(raw: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Rule]:
    return {(r["from"], r["to"]): Rule(mode=Mode(r["mode"]), delay_s=float(r["delay_s"])) for r in raw}


class ProxyControl:
    """Speaks to a proxy's control port: one JSON line there, one back."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self._token = token

    def set_rules(self, rules: Rules) -> None:
        """Replace all rules. When this returns they hold, for open connections too.

        Raises:
            LabError: the proxy cannot be reached, or names a node or link that it does not know.
        """
        self._ask({"rules": rules_to_wire(rules)})

    def rules(self) -> dict[tuple[str, str], Rule]:
        """The rules in force that are not plainly open.

        Raises:
            LabError: the proxy cannot be reached.
        """
        return rules_from_wire(self._ask({})["rules"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=_ANSWER_DEADLINE_S) as connection:
                connection.sendall(json.dumps(request | {"token": self._token}).encode() + b"\n")
                with connection.makefile("rb") as answers:
                    answer: dict[str, Any] = json.loads(answers.readline())
        except (OSError, ValueError) as error:
            raise LabError(f"the proxy between the nodes does not answer on port {self.port}: {error}") from error
        if "error" in answer:
            raise LabError(str(answer["error"]))
        return answer
