"""Elections for threads: the async ones, run on the client's loop.

What may not live here: what an election does (`electing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from raftkv.client.calls import Key, Value
from raftkv.client.contender_sync import Contender
from raftkv.client.electing import AsyncElection, AsyncObservation
from raftkv.client.leasing_sync import in_a_thread
from raftkv.client.runner import Runner
from raftkv.client.values import KeyValue
from raftkv.errors import Cancelled


class Election(Contender[AsyncElection]):
    """An election; made by `Client.election`."""

    def __init__(
        self,
        runner: Runner,
        name: Key,
        ttl: int,
        *,
        timeout: float,
        on_lost: Callable[[Election], object] | None = None,
    ) -> None:
        told = in_a_thread(on_lost, self)
        super().__init__(runner, AsyncElection(runner, name, ttl, timeout=timeout, on_lost=told))

    @property
    def is_leader(self) -> bool:
        """Whether we lead, by our own clock. Asks no server."""
        return self._inner.is_leader

    def campaign(self, value: Value, *, timeout: float | None = None) -> None:
        """Stand for election, and wait until we lead. A leader that campaigns again only changes the value.

        Args:
            value: what we have to say as the leader: an address, mostly.
            timeout: seconds; None: for as long as it takes.

        Raises:
            DeadlineExceeded: we were not elected in time, and are no candidate any more.
            LeaseLost: our lease was lost, so nothing was won.
        """
        self._stand(lambda: self._inner.campaign(value, timeout=timeout))

    def proclaim(self, value: Value) -> None:
        """Say something else, as the leader.

        Raises:
            LeaseLost: we do not lead any more.
            RuntimeError: we were never elected.
        """
        self._runner.run(lambda _: self._inner.proclaim(value))

    def resign(self) -> None:
        """Let the next candidate lead. Nothing where we do not lead.

        Raises:
            RequestError: nobody answered; the office goes by itself when its lease does.
        """
        self._runner.run_anew(lambda _: self._inner.resign())

    def leader(self) -> KeyValue | None:
        """Who leads, as the key that stands for it: `.value` is what it proclaims. None: nobody."""
        return self._runner.run_anew(lambda _: self._inner.leader())

    def observe(self) -> Observation:
        """Hear who leads: at once, whenever that changes, and whenever the leader proclaims something else."""
        return Observation(self._runner, self._inner.observe())

    def __enter__(self) -> Self:
        return self


class Observation(Iterator[KeyValue]):
    """Who leads, for ever; made by `Election.observe`. Items are the keys that stand for leaders."""

    def __init__(self, runner: Runner, observation: AsyncObservation) -> None:
        self._runner = runner
        self._observation = observation
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> KeyValue:
        if self._closed:
            raise StopIteration
        try:
            return self.next()
        except Cancelled:
            if self._closed:
                raise StopIteration from None
            raise

    def next(self, *, timeout: float | None = None) -> KeyValue:
        """What is new; waits for it, without an end unless there is a `timeout` in seconds. A wait given up loses nothing.

        Raises:
            DeadlineExceeded: there was nothing in time.
            Cancelled: the observation, or the client, is closed.
        """
        return self._runner.run_anew(lambda _: self._observation.next(timeout=timeout))

    def close(self) -> None:
        """End it. Idempotent; iteration then ends."""
        self._closed = True
        self._runner.run_if_open(lambda _: self._observation.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
