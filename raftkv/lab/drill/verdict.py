"""What a round has shown, and whether that is good enough. Pure.

What may not live here: how it was found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from raftkv.lab import probe
from raftkv.lab.drill.measuring import Bin


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened, seconds from the fault. ``kind``: fault, healed or leader."""

    at_s: float
    kind: str
    text: str


@dataclass(kw_only=True)
class Round:
    """One fault, and everything that was seen of it.

    Attributes:
        did: what was done, in words.
        leader_before, leader_after: names of nodes.
        terms: by how much the term grew.
        write_outage_s, read_outage_s: the longest time without a success, from the fault to the end; None: not measured.
        write_gap, read_gap: where that was, from and to, seconds from the fault.
        leader_known_s: from the fault to the first answer of a node that led a later term; None: nobody did.
        not_before_s: an outage counts from here, seconds from the fault: before it, no process was there that could answer.
        errors: what callers were told, by kind.
        operations, unknown: of the canary, in all and of unknown outcome.
        lost: acknowledged writes that are not there.
        linearizable: the judge's word; empty while it has not spoken.
        explanation: what is not linearizable, if so.
        hashes: each node's, of one revision.
        problems: why the round failed; none: it passed.
    """

    fault: str
    number: int
    did: str = ""
    leader_before: str = ""
    leader_after: str = ""
    terms: int = 0
    write_outage_s: float | None = None
    read_outage_s: float | None = None
    write_gap: tuple[float, float] = (0.0, 0.0)
    read_gap: tuple[float, float] = (0.0, 0.0)
    leader_known_s: float | None = None
    not_before_s: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    operations: int = 0
    unknown: int = 0
    lost: list[str] = field(default_factory=list)
    linearizable: str = ""
    explanation: str = ""
    hashes: dict[str, str] = field(default_factory=dict)
    bins: list[Bin] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, times in milliseconds."""
        raw = asdict(self)
        for name in ("write_outage", "read_outage", "leader_known", "not_before"):
            seconds = raw.pop(f"{name}_s")
            raw[f"{name}_ms"] = None if seconds is None else round(seconds * 1000, 1)
        return raw | {"ok": self.ok}


def judge(found: Round, *, max_outage_s: float) -> list[str]:
    """What is wrong with a round that went to its end; nothing: it passes."""
    problems = []
    for what, outage_s in (("write", found.write_outage_s), ("read", found.read_outage_s)):
        if outage_s is None:
            problems.append(f"no {what} outage was measured")
        elif outage_s - found.not_before_s > max_outage_s:
            problems.append(
                f"no {what} succeeded for {outage_s - found.not_before_s:.3f} s; {max_outage_s:g} s is the limit"
            )
    if found.lost:
        problems.append(f"{len(found.lost)} acknowledged writes are lost, among them {found.lost[0]}")
    if found.linearizable != "linearizable":
        problems.append(f"the history is {found.linearizable or 'not judged'}")
    if len(set(found.hashes.values())) != 1:
        hashes = ", ".join(f"{name} {value}" for name, value in sorted(found.hashes.items()))
        problems.append(f"the nodes do not hold the same: {hashes or 'no hashes'}")
    return problems


def hashes_in_words(answers: Mapping[str, probe.KvHash | str]) -> dict[str, str]:
    """Each node's hash as eight digits, or why there is none."""
    return {name: answer if isinstance(answer, str) else f"{answer.value:08x}" for name, answer in answers.items()}


def is_passed(rounds: Sequence[Round], planned: int) -> bool:
    """Every round that was planned took place and passed."""
    return len(rounds) == planned and all(found.ok for found in rounds)
