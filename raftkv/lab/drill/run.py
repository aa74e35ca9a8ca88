"""The order of a drill: look before anything is touched, lock, break and heal round by round, and clean up whatever happens.

What may not live here: how anything is broken, measured or shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from raftkv import aio
from raftkv.errors import RequestError
from raftkv.lab.drill import measuring
from raftkv.lab.drill.canary import Canary
from raftkv.lab.drill.faults import Breaker
from raftkv.lab.drill.load import BackgroundLoad
from raftkv.lab.drill.lock import KEY, DrillLock
from raftkv.lab.drill.options import HALF, IDLE, DrillError, Options
from raftkv.lab.drill.target import Target, common_hash, require_healthy, wait_until_healthy
from raftkv.lab.drill.verdict import Mark, Round, hashes_in_words, judge
from raftkv.lab.drill.watch import LeaderWatch
from raftkv.lab.linearizability import CheckLimits, Verdict, check
from raftkv.lab.probe import KvHash

WARM_OPERATIONS = 50
WARM_DEADLINE_S = 10.0
CALM_S = 1.0
"""Shown before each fault and after each healing, so that both are seen from a quiet state."""
HOLD_S = 1.5
HOLD_MAX_S = 10.0
HEALTHY_DEADLINE_S = 30.0
HASH_DEADLINE_S = 20.0
CHECK_LIMITS = CheckLimits(seconds=30.0)
LOOK_S = 0.1
CLEAN_TIMEOUT_S = 20.0
EMPTY_SWEEPS = 3
SWEEP_PAUSE_S = 0.2

T = TypeVar("T")


class Observer(Protocol):
    """Who is told what goes on."""

    def phase(self, text: str) -> None:
        """What is being done now."""

    def rates(self, reads: float, writes: float) -> None:
        """Operations of the canary that succeeded, a second, lately."""

    def finished(self, found: Round) -> None:
        """A round is over."""


class Drill:
    """One drill of one cluster. ``rounds`` fills as it goes, and is what there is if it ends early.

    Args:
        options: what is to be done.
        target: the cluster, found.
        breaker: how it is broken.
        observer: is told.
    """

    def __init__(self, options: Options, target: Target, breaker: Breaker, observer: Observer) -> None:
        self._options = options
        self._target = target
        self._breaker = breaker
        self._observer = observer
        self._endpoints = list(target.endpoints.values())
        self.rounds: list[Round] = []
        self.left_behind: list[str] = []
        """What could not be cleaned up, in words."""

    @property
    def planned(self) -> int:
        return len(self._options.faults) * self._options.rounds

    async def run(self) -> None:
        """Do it all. After it, returned or raised, the cluster is as it was, as far as it answers.

        Raises:
            DrillError: it was not begun, or could not go on; ``rounds`` has what was done.
            RequestError: the cluster does not answer.
        """
        await in_thread(self._require_faults)
        self._observer.phase("looking at the cluster")
        await in_thread(require_healthy, self._target)
        async with aio.connect(self._endpoints) as client:
            await self._require_empty(client)
            self._observer.phase("taking the lock")
            lock = DrillLock(client)
            await lock.take()
            try:
                await self._require_empty(client)
                await self._all_rounds(client, lock)
            finally:
                await finish(self._clean(client, lock))

    def _require_faults(self) -> None:
        obstacles = {fault: self._breaker.obstacle(fault) for fault in self._options.faults}
        found = [f"{fault}: {why}" for fault, why in obstacles.items() if why is not None]
        if found:
            raise DrillError(f"cannot make this fault here: {'; '.join(found)}")

    async def _require_empty(self, client: aio.AsyncClient) -> None:
        there = await client.count(prefix=self._options.prefix)
        if there:
            raise DrillError(
                f"there are {there} keys under the prefix {self._options.prefix!r}, and the drill deletes all of it at its end: "
                "choose another --prefix, or remove them if an earlier drill has left them"
            )

    async def _clean(self, client: aio.AsyncClient, lock: DrillLock) -> None:
        """Remove our keys and give the lock back. Where the cluster does not answer, say what is left."""
        self._observer.phase("cleaning up")
        try:
            await sweep(client, self._options.prefix)
        except RequestError as error:
            self.left_behind.append(f"keys under {self._options.prefix!r} could not be removed: {error}")
        try:
            await lock.give_back()
        except RequestError as error:
            self.left_behind.append(f"the key {KEY} could not be removed: {error}")

    async def _all_rounds(self, client: aio.AsyncClient, lock: DrillLock) -> None:
        load = BackgroundLoad(self._endpoints, f"{self._options.prefix}load/")
        try:
            rate = await self._load_rate(load)
            if rate:
                load.start(rate)
            for number in range(self._options.rounds):
                for fault in self._options.faults:
                    lock.check()
                    found = Round(fault=fault, number=number + 1)
                    self.rounds.append(found)
                    await self._round(found)
                    self._observer.finished(found)
                    await client.delete(prefix=self._prefix_of(found), timeout=CLEAN_TIMEOUT_S)
        finally:
            await load.close()

    async def _load_rate(self, load: BackgroundLoad) -> float:
        match self._options.load:
            case str(word) if word == IDLE:
                return 0.0
            case str(word) if word == HALF:
                self._observer.phase("measuring what the cluster takes, to load it with half of that")
                return await load.full_rate() / 2
            case rate:
                return float(rate)

    def _prefix_of(self, found: Round) -> str:
        return f"{self._options.prefix}{found.fault}/{found.number}/"

    # One round.

    async def _round(self, found: Round) -> None:
        """Play and judge it. What goes wrong with the cluster is a problem of the round.

        Raises:
            DrillError: the cluster has not come back; the drill must end here.
        """
        await in_thread(self._healthy)
        canary = Canary(self._endpoints, self._prefix_of(found))
        watch = LeaderWatch(self._target.endpoints)
        showing = asyncio.create_task(self._show_rates(canary))
        try:
            canary.start()
            self._say(found, "reading and writing before the fault")
            await self._warm_up(canary)
            fault_at = await self._break_and_heal(found, canary, watch)
            self._say(found, "comparing the nodes, judging the history")
            await canary.read_everything()
            found.lost = await canary.lost_writes()
            verdict = await in_thread(self._judge_history, canary)
            found.linearizable, found.explanation = verdict.judgement.value, verdict.explanation
            self._measure(found, canary, fault_at)
            found.hashes = hashes_in_words(await in_thread(self._hashes))
            found.problems += judge(found, max_outage_s=self._options.max_outage_s)
        except DrillError as error:
            found.problems.append(str(error))
            self._observer.finished(found)
            raise
        except RequestError as error:
            found.problems.append(f"the cluster did not answer: {error}")
        finally:
            showing.cancel()
            await finish(_close(canary, watch))

    async def _break_and_heal(self, found: Round, canary: Canary, watch: LeaderWatch) -> float:
        """Returns when the fault began. When it raises, too, everything has been made good as far as it goes."""
        # Now: leadership may have moved during the warm-up.
        found.leader_before = await in_thread(require_healthy, self._target, HEALTHY_DEADLINE_S)
        term = watch.term
        self._say(found, f"breaking {found.leader_before}")
        fault_at = time.monotonic()
        try:
            found.did = await in_thread(self._breaker.make, found.fault, found.leader_before, found.number)
            found.marks.append(Mark(at_s=0.0, kind="fault", text=found.did))
            self._say(found, found.did)
            if found.fault != "restart-all":  # There is nothing to hold out for: nobody is left.
                await self._hold(canary, fault_at)
        finally:
            self._say(found, "making everything good")
            healed_at = time.monotonic()
            await finish(in_thread(self._breaker.restore))
        if found.fault == "restart-all":
            found.not_before_s = time.monotonic() - fault_at
        found.marks.append(Mark(at_s=healed_at - fault_at, kind="healed", text="made good"))
        found.leader_after = await in_thread(self._healthy)
        await asyncio.sleep(CALM_S)
        canary.check()
        await canary.stop()
        for sight in watch.led_since(fault_at):
            text = f"{sight.leader} leads term {sight.term}"
            found.marks.append(Mark(at_s=sight.at - fault_at, kind="leader", text=text))
            if found.leader_known_s is None:
                found.leader_known_s = sight.at - fault_at
        found.terms = watch.term - term
        return fault_at

    async def _warm_up(self, canary: Canary) -> None:
        end = time.monotonic() + WARM_DEADLINE_S
        while min(canary.succeeded["put"], canary.succeeded["get"]) < WARM_OPERATIONS:
            canary.check()
            if time.monotonic() > end:
                told = ", ".join(f"{count} x {kind}" for kind, count in canary.errors.items())
                raise DrillError(
                    f"the cluster hardly answers, before any fault: {told or 'no errors, only few answers'}"
                )
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(CALM_S)

    async def _hold(self, canary: Canary, fault_at: float) -> None:
        """Let the fault last, until reads and writes have gone on for a few looks; but not for ever."""
        good_looks, before = 0, canary.succeeded.copy()
        while (held_s := time.monotonic() - fault_at) < HOLD_MAX_S and (held_s < HOLD_S or good_looks < 5):
            await asyncio.sleep(LOOK_S)
            canary.check()
            good_looks = good_looks + 1 if all(canary.succeeded[op] > before[op] for op in ("put", "get")) else 0
            before = canary.succeeded.copy()

    async def _show_rates(self, canary: Canary) -> None:
        period_s = 0.5
        while True:
            before = canary.succeeded.copy()
            await asyncio.sleep(period_s)
            self._observer.rates(*((canary.succeeded[op] - before[op]) / period_s for op in ("get", "put")))

    def _measure(self, found: Round, canary: Canary, fault_at: float) -> None:
        operations = canary.operations
        returns = [operation.returned for operation in operations if not operation.unknown]
        start, end = min(operation.call for operation in operations), max(returns)
        found.operations, found.unknown = len(operations), sum(operation.unknown for operation in operations)
        found.errors = dict(canary.errors)
        writes, reads = (measuring.outage(operations, op, since=fault_at, until=end) for op in ("put", "get"))
        found.write_outage_s, found.read_outage_s = writes.seconds, reads.seconds
        found.write_gap = (writes.start - fault_at, writes.end - fault_at)
        found.read_gap = (reads.start - fault_at, reads.end - fault_at)
        found.bins = measuring.bins(operations, fault_at=fault_at, start=start, end=end)

    def _judge_history(self, canary: Canary) -> Verdict:
        return check(canary.operations, limits=CHECK_LIMITS)

    def _hashes(self) -> Mapping[str, KvHash | str]:
        return common_hash(self._target, deadline_s=HASH_DEADLINE_S)

    def _healthy(self) -> str:
        return wait_until_healthy(self._target, deadline_s=HEALTHY_DEADLINE_S)

    def _say(self, found: Round, text: str) -> None:
        self._observer.phase(f"{found.fault} {found.number}/{self._options.rounds}: {text}")


async def sweep(client: aio.AsyncClient, prefix: str) -> None:
    """Delete all keys under a prefix, again and again until none has come for a while: writes given up may still come in.

    Raises:
        RequestError: the cluster does not answer.
    """
    end, empty = time.monotonic() + CLEAN_TIMEOUT_S, 0
    while empty < EMPTY_SWEEPS and time.monotonic() < end:
        done = await client.delete(prefix=prefix, timeout=CLEAN_TIMEOUT_S)
        empty = 0 if done.deleted else empty + 1
        await asyncio.sleep(SWEEP_PAUSE_S)


async def _close(canary: Canary, watch: LeaderWatch) -> None:
    await canary.close()
    await watch.close()


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Do this to its end, even if we are cancelled meanwhile: what cleans up must not be cut short."""
    running = asyncio.ensure_future(work)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await running
        raise


async def in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Run what blocks in a thread. If we are cancelled, it is waited for: nobody else may touch the cluster meanwhile."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # Looked at: the cancellation counts.
        raise
