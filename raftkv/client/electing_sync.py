"""Elections for threads: the async ones, run on the client's loop.

What may not live here: what an election does (`electing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from raftkv.client.calls import Key, Value
from raftkv.client.electing import AsyncElection, AsyncObservation
from raftkv.client.leasing_sync import Lost, in_a_thread
from raftkv.client.runner import Runner
from raftkv.client.transaction import Condition
from raftkv.client.values import KeyValue
from raftkv.errors import RequestError


class Election:
    """An election; made by `Client.election`. For one thread at a time.

    Attributes:
        name: as given.
        lost: an event with `is_set()` and `wait(timeout)`: the lease that our office hangs on is gone. Goes by this machine's own
            clock.
    """

    def __init__(
        self,
        runner: Runner,
        name: Key,
        ttl: int,
        *,
        timeout: float,
        on_lost: Callable[[Election], object] | None = None,
    ) -> None:
        self.name = name
        self._runner = runner
        self._election = AsyncElection(runner, name, ttl, timeout=timeout, on_lost=in_a_thread(on_lost, self))
        self.lost = Lost(lambda: self._election.tenure)

    @property
    def key(self) -> bytes:
        """The key that stands for us while we lead."""
        return self._election.key

    @property
    def fencing_token(self) -> int:
        """The create revision of our key: every later leader's is greater."""
        return self._election.fencing_token

    @property
    def fence(self) -> Condition:
        """For transactions: we lead still, in this very term of office."""
        return self._election.fence

    @property
    def is_leader(self) -> bool:
        """Whether we lead, by our own clock. Asks no server."""
        return self._election.is_leader

    def require(self) -> None:
        """Return if we lead still, by our own clock.

        Raises:
            LeaseLost: we do not.
        """
        self._election.require()

    def campaign(self, value: Value, *, timeout: float | None = None) -> None:
        """Stand for election, and wait until we lead. A leader that campaigns again only changes the value.

        Args:
            value: what we have to say as the leader: an address, mostly.
            timeout: seconds; None: for as long as it takes.

        Raises:
            DeadlineExceeded: we were not elected in time, and are no candidate any more.
            LeaseLost: our lease was lost, so nothing was won.
        """
        try:
            self._runner.run_anew(lambda _: self._election.campaign(value, timeout=timeout))
        except RequestError:
            raise
        except BaseException:  # Of a signal, mostly: not before our place in the queue has been given up.
            self._runner.run_if_open(lambda _: self._election.settled())
            raise

    def proclaim(self, value: Value) -> None:
        """Say something else, as the leader.

        Raises:
            LeaseLost: we do not lead any more.
            RuntimeError: we were never elected.
        """
        self._runner.run(lambda _: self._election.proclaim(value))

    def resign(self) -> None:
        """Let the next candidate lead. Nothing where we do not lead.

        Raises:
            RequestError: nobody answered; the office goes by itself when its lease does.
        """
        self._runner.run_anew(lambda _: self._election.resign())

    def leader(self) -> KeyValue | None:
        """Who leads, as the key that stands for it: `.value` is what it proclaims. None: nobody."""
        return self._runner.run_anew(lambda _: self._election.leader())

    def observe(self) -> Observation:
        """Hear who leads: at once, whenever that changes, and whenever the leader proclaims something else."""
        return Observation(self._runner, self._election.observe())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._runner.is_closed:
            self._runner.run_anew(lambda _: self._election.end(is_quiet=error is not None))

    def __repr__(self) -> str:
        return repr(self._election)


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
        return self.next()

    def next(self, *, timeout: float | None = None) -> KeyValue:
        """What is new; waits for it, without an end unless there is a `timeout` in seconds. A wait given up loses nothing.

        Raises:
            DeadlineExceeded: there was nothing in time.
            Cancelled: the client is closed.
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
