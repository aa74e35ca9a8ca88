"""One round: traffic, a plan of faults, everything made good again, and the judgement.

A round counts only if traffic was real (100 successful operations in the second before the first fault) and if, at the end, every
node takes a write. Then, of everything that clients saw in the round:

- both oracles find the history linearizable;
- every acknowledged put stands in the store's history at its revision (unless that was compacted);
- all nodes come to the same hash at the same revision;
- no node has ended by itself.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from traceback import format_exception_only

from raftkv.errors import RequestError
from raftkv.lab import probe
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.errors import LabError
from raftkv.lab.history import HistoryError, Operation
from raftkv.lab.linearizability import CheckLimits, check
from tests.nemesis.clients import Clients
from tests.nemesis.faults import Nemesis, Step, draw_plan

SUCCESSES_BEFORE = 100
SUCCESSES_AFTER = 100
WAIT_S = 30.0
CHECK_LIMITS = CheckLimits(seconds=60.0)


class Failed(Exception):
    """A round that shows a bug."""


class Void(Failed):
    """A round that does not count: there was no real traffic before anything was broken (the machine is overloaded)."""


@dataclass(kw_only=True)
class Round:
    """What became of one round.

    Attributes:
        did: the faults, in the words of the nemesis.
        outage_s: the longest time without any success, from the first fault to the end.
        problem: why it failed, or does not count; None if all is well.
        is_void: it does not count.
        history: what clients saw.
    """

    seed: str
    did: list[str] = field(default_factory=list)
    outage_s: float = 0.0
    verdict: str = ""
    problem: str | None = None
    is_void: bool = False
    history: Sequence[Operation] = ()
    seconds: float = 0.0

    @property
    def unknown(self) -> list[Operation]:
        return [operation for operation in self.history if operation.unknown]


def play(
    cluster: LocalCluster,
    seed: str,
    *,
    faults: list[str] | None = None,
    single: bool = False,
    carried: Sequence[Operation] = (),
    longest_hold_s: float | None = None,
) -> Round:
    """Play a round on a healthy cluster.

    Args:
        cluster: three nodes, with a proxy.
        seed: of the plan, and of what clients choose.
        faults: to draw from; all by default.
        single: one fault, not one to three.
        carried: writes of unknown outcome of earlier rounds: they may still come.
        longest_hold_s: cut what the plan holds for longer.
    """
    rng = random.Random(seed)
    plan = draw_plan(rng, faults=faults, single=single)
    result = Round(seed=seed)
    began = time.monotonic()
    nemesis = Nemesis(cluster, rng)
    with Clients(cluster.endpoints, name=seed, seed=seed) as clients:
        try:
            _under_faults(clients, nemesis, plan, result, longest_hold_s)
            result.history = clients.recorder.operations
            _judge(cluster, clients, result, carried)
        except (
            Failed,
            LabError,
            RequestError,
            HistoryError,
            ExceptionGroup,
        ) as problem:  # A group: what clients died of.
            result.problem = "".join(format_exception_only(problem)).strip()
            result.is_void = isinstance(problem, Void)
            result.history = clients.recorder.operations
        finally:
            nemesis.release()
    result.seconds = time.monotonic() - began
    return result


def _under_faults(
    clients: Clients, nemesis: Nemesis, plan: Sequence[Step], result: Round, longest_hold_s: float | None
) -> None:
    clients.start()
    wait_until(
        lambda: clients.check() or clients.successes_since(time.monotonic() - 1.0) >= SUCCESSES_BEFORE,
        f"{SUCCESSES_BEFORE} successful operations in a second, before any fault",
        Void,
    )
    began = time.monotonic()
    for number, step in enumerate(plan):
        if step.alone and number:
            nemesis.restore()
        result.did.append(nemesis.do(step.fault))
        hold(min(step.hold_s, longest_hold_s or step.hold_s))
        _nobody_crashed(nemesis)
    nemesis.restore()
    healed = time.monotonic()
    try:
        wait_until(
            lambda: clients.check() or clients.successes_since(healed) >= SUCCESSES_AFTER,
            f"{SUCCESSES_AFTER} successful operations after everything was made good",
        )
    finally:
        result.outage_s = clients.longest_gap_s(began)
        clients.stop()
    clients.last_write_everywhere()
    clients.read_everything()
    _nobody_crashed(nemesis)


def _judge(cluster: LocalCluster, clients: Clients, result: Round, carried: Sequence[Operation]) -> None:
    verdict = check([*_renumbered(result.history, carried)], limits=CHECK_LIMITS, sole_writer=True)
    result.verdict = str(verdict).splitlines()[0]
    if not verdict.ok:
        raise Failed(str(verdict))
    gone = clients.revisions_gone(result.history)
    if gone:
        raise Failed(f"{len(gone)} acknowledged puts are not in the store's history: {gone[:5]}")
    nodes_agree(cluster)


def _renumbered(history: Sequence[Operation], carried: Sequence[Operation]) -> list[Operation]:
    """The history keeps its numbers; what is carried over follows."""
    late = [
        Operation(len(history) + number, old.client, old.call, old.returned, old.op, old.args, old.result)
        for number, old in enumerate(carried, 1)
    ]
    return [*history, *late]


def _nobody_crashed(nemesis: Nemesis) -> None:
    crashed = nemesis.crashed()
    if crashed:
        words = "\n".join(nemesis.cluster.log_tail(crashed[0], 30))
        raise Failed(f"{', '.join(crashed)} ended without being told to. {crashed[0]} has logged:\n{words}")


def nodes_agree(cluster: LocalCluster) -> None:
    """Every node comes to the same state. Raises Failed."""

    def revisions() -> set[int]:
        answers = probe.statuses(cluster.endpoints).values()
        return {answer.revision if isinstance(answer, probe.NodeAnswer) else -1 for answer in answers}

    wait_until(lambda: len(revisions()) == 1 and -1 not in revisions(), "the same revision on every node")
    hashes = probe.hashes(cluster.endpoints)
    if len(set(hashes.values())) != 1:
        raise Failed(f"the nodes' states differ: {hashes}")


def wait_until(condition: Callable[[], object], what: str, otherwise: type[Failed] = Failed) -> None:
    """Raises Failed, which says what did not happen."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise otherwise(f"{what}: not within {WAIT_S:.0f} s")
        hold(0.02)


def hold(seconds: float) -> None:
    """Let time pass: how long a fault lasts is part of the fault."""
    threading.Event().wait(seconds)
