"""The first minute with raftkv: three nodes, writes, a murdered leader, and a count of what was lost.

The story is told by a ``View``; the judge is ``Traffic``'s record. Everything that is started is ended again, whatever happens:
the cluster is leashed, so that not even SIGKILL of the demo leaves a process or a file behind.

What may not live here: how things look (``demo_view.py``), what the user may type afterwards (``demo_prompt.py``).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType

from rich.console import Console

from raftkv.lab import probe
from raftkv.lab.cluster import SERVE, LocalCluster
from raftkv.lab.demo_prompt import Prompt
from raftkv.lab.demo_view import Board, LiveView, PlainView, View, in_words
from raftkv.lab.probe import KvHash, NodeAnswer
from raftkv.lab.traffic import Traffic

_NODES = 3
_BEFORE_S = 2.0
_AFTER_S = 1.5
_RECOVERY_DEADLINE_S = 10.0
_CATCH_UP_DEADLINE_S = 10.0
_LOOK_S = 0.1


def run(console: Console, *, interactive: bool, command: Sequence[str] = SERVE, proxy: bool = True) -> int:
    """Tell the story, then leave a prompt if ``interactive``.

    Returns:
        The exit status: 0 if every acknowledged write was there afterwards and the nodes agree, 1 if not.

    Raises:
        RaftkvError: something could not be done at all.
    """
    with _signals_end_us(), ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster.temporary(nodes=_NODES, command=command, proxy=proxy))
        with LiveView(console) if interactive else PlainView(console) as view:
            view.step(f"starting {_NODES} nodes, a process each, in {cluster.directory}")
            cluster.up()
            traffic = stack.enter_context(Traffic(list(cluster.endpoints.values())))
            good = Story(cluster, traffic, view).tell()
        if interactive:
            Prompt(cluster, traffic, console).run()
    return 0 if good else 1


@dataclass
class Story:
    """The one-minute story, step by step."""

    cluster: LocalCluster
    traffic: Traffic
    view: View

    def tell(self) -> bool:
        """Tell it; True if it ends well."""
        self.view.step(
            f"{self.cluster.wait_for_leader()} leads; 8 writers put through the Python client, each key once"
        )
        self.traffic.start()
        self._watch(until=lambda: False, deadline_s=_BEFORE_S)
        self.view.step(f"{self.traffic.counts.acknowledged:,} writes acknowledged, {self.traffic.rate():,.0f} a second")
        leader = self.cluster.wait_for_leader()  # Asked again: on a busy machine it may be another by now.
        successor = self._murder(leader)
        if successor is None:
            return False
        caught_up = self._bring_back(leader)
        self.traffic.stop()
        return self._judge() and caught_up

    def _murder(self, leader: str) -> str | None:
        """Kill the leader and wait until writes go on; the name of its successor."""
        pid = self.cluster.pid(leader)
        moment = time.monotonic()
        self.cluster.kill(leader)
        dead = time.monotonic()
        self.view.step(f"[bold red]kill -9[/] {pid}: the leader, {leader}, is dead")
        back = self._watch(until=lambda: self._goes_on(dead), deadline_s=_RECOVERY_DEADLINE_S)
        if not back:
            self.view.step(f"[bold red]writes did not go on within {_RECOVERY_DEADLINE_S:g} s[/]")
            return None
        self._watch(until=lambda: False, deadline_s=_AFTER_S)
        outage_ms = self.traffic.longest_gap_s(moment) * 1000
        successor = self.cluster.wait_for_leader(other_than=leader)
        self.view.step(
            f"{successor} leads now; the longest time without an acknowledged write was [bold]{outage_ms:,.0f} ms[/], "
            f"{self._unknown_in_words()}"
        )
        return successor

    def _goes_on(self, moment: float) -> bool:
        return self.traffic.acknowledged_since(moment) > 20 and self.cluster.leader() is not None

    def _bring_back(self, name: str) -> bool:
        """Start the dead node again, under load, and wait until it has caught up."""
        start = time.monotonic()
        self.cluster.start([name])
        missed = max(self._applied().values(), default=0)
        done = self._watch(until=lambda: self._applied().get(name, 0) >= missed, deadline_s=_CATCH_UP_DEADLINE_S)
        if not done:
            self.view.step(f"[bold red]{name} did not catch up within {_CATCH_UP_DEADLINE_S:g} s[/]")
            return False
        self.view.step(f"{name} is back, and had caught up after {time.monotonic() - start:.1f} s while writes went on")
        return True

    def _judge(self) -> bool:
        """Read everything back, and compare the nodes' hashes."""
        verdict = self.traffic.read_back()
        for line in in_words(verdict):
            self.view.step(line)
        return self._hashes_agree() and verdict.good

    def _hashes_agree(self) -> bool:
        """Whether all nodes have the same keys and history, once all have applied the same."""
        hashes: dict[str, KvHash | str] = {}

        def equal() -> bool:
            hashes.update(probe.hashes(self.cluster.endpoints))
            return len(set(hashes.values())) == 1 and all(isinstance(value, KvHash) for value in hashes.values())

        agreed = self._watch(until=equal, deadline_s=_CATCH_UP_DEADLINE_S)
        if agreed:
            value = next(value for value in hashes.values() if isinstance(value, KvHash))
            self.view.step(f"all nodes have the same hash {value.value:08x} at revision {value.revision:,}")
        else:
            self.view.step(f"[bold red]the nodes do not agree[/]: {hashes}")
        return agreed

    def _applied(self) -> dict[str, int]:
        answers = {node.name: node.answer for node in self.cluster.status()}
        return {name: answer.applied_index for name, answer in answers.items() if isinstance(answer, NodeAnswer)}

    def _unknown_in_words(self) -> str:
        unknown = self.traffic.counts.unknown
        return f"{unknown} writes ended unknown" if unknown else "no write ended unknown"

    def _watch(self, *, until: Callable[[], bool], deadline_s: float) -> bool:
        """Keep the board moving until something is so, or the time is over."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            self.traffic.check()
            if until():
                return True
            self.view.board(lambda: board_of(self.cluster, self.traffic))
            time.sleep(_LOOK_S)
        return False


def board_of(cluster: LocalCluster, traffic: Traffic) -> Board:
    """How things are now."""
    return Board(
        nodes=cluster.status(deadline_s=0.2),
        counts=traffic.counts,
        rate=traffic.rate(),
        history=traffic.rates(bins=60, bin_s=0.1),
    )


@contextmanager
def _signals_end_us() -> Iterator[None]:
    """SIGTERM and SIGHUP become SystemExit, so that everything is cleaned up."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
