"""Leases for asyncio: granted once, renewed by a task until they are revoked or lost.

The id is chosen here, not by the server: a grant whose answer was lost is asked for again and cannot grant twice.

What may not live here: when a lease counts as lost (`tenure`), threads (`leasing_sync`).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

from raftkv.client import lease_calls
from raftkv.client.engine import Engine
from raftkv.client.operation import Operation
from raftkv.client.tenure import Tenure, now
from raftkv.errors import (
    LEASE_EXISTS,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    Outcome,
    RequestError,
    Unavailable,
)

T = TypeVar("T")

ATTEMPT_MIN_S: Final = 1.0
ATTEMPT_MAX_S: Final = 5.0
"""A call that may be made twice is made again, elsewhere if possible, when half of its time has passed without an answer."""
PAUSE_S: Final = 0.05
"""Between two attempts, where the first failed at once."""
RELEASE_S: Final = 5.0
"""How long the end of a `with` block tries to give back what would go by itself with the lease."""
_ID_BITS: Final = 63
_NOT_GRANTED: Final = "the lease was not granted yet: enter it, or await it"


class Resident(Protocol):
    """Something that runs on a client's loop, and anew on the next one after a fork."""

    def move_in(self, engine: Engine) -> None: ...
    def leave_behind(self, why: str, *, is_forked: bool) -> None: ...


class Home(Protocol):
    """Where residents live: one loop for ever (asyncio), or the loops of a `Runner`."""

    def usable(self) -> Engine: ...
    def add(self, resident: Resident) -> None: ...
    def discard(self, resident: Resident) -> None: ...


class AsyncHome:
    """The home of an `AsyncClient`'s leases."""

    def __init__(self, usable: Callable[[], Engine]) -> None:
        self.usable = usable
        self._residents: set[Resident] = set()

    def add(self, resident: Resident) -> None:
        """Run it, now."""
        self._residents.add(resident)
        resident.move_in(self.usable())

    def discard(self, resident: Resident) -> None:
        self._residents.discard(resident)

    def close(self) -> None:
        """The client is closed: nobody renews them any more."""
        for resident in list(self._residents):
            resident.leave_behind("the client is closed", is_forked=False)


async def repeated(home: Home, make: Callable[[], Operation[T]], timeout: float) -> T:
    """Have something done that may be done twice, through failovers, for `timeout` seconds.

    Raises:
        RequestError: it was refused, or nobody answered in time.
    """
    end = time.monotonic() + timeout
    while True:
        left = end - time.monotonic()
        try:
            return await home.usable().perform(make(), _attempt_s(left))
        except (Unavailable, DeadlineExceeded) as error:
            if end - time.monotonic() <= PAUSE_S:
                if isinstance(error, DeadlineExceeded):
                    raise DeadlineExceeded(f"the deadline passed: {error.message}", outcome=error.outcome) from None
                raise
            await asyncio.sleep(PAUSE_S)


def _attempt_s(left_s: float) -> float:
    """How long one of several attempts may take, of the time that is left for all."""
    return max(0.001, min(left_s, max(ATTEMPT_MIN_S, left_s / 2), ATTEMPT_MAX_S))


class AsyncLost:
    """Tells that a lease is gone. Like an `asyncio.Event` that nobody sets by hand."""

    def __init__(self, tenure: Callable[[], Tenure]) -> None:
        self._tenure = tenure

    def is_set(self) -> bool:
        """Whether it is gone, by our own clock; asks no server."""
        return self._tenure().is_over

    async def wait(self) -> None:
        """Return when it is gone."""
        tenure = self._tenure()
        gone = asyncio.Event()
        tenure.listen(gone.set)
        try:
            if not tenure.is_over:
                await gone.wait()
        finally:
            tenure.ignore(gone.set)


class AsyncLease:
    """A lease that is kept alive; made by `AsyncClient.lease`. See `Client.lease`.

        lease = await kv.lease(10)
        async with kv.lease(10) as lease: ...

    Attributes:
        lost: an event: the lease is gone, because nobody could renew it, or because it was revoked.
    """

    def __init__(
        self, home: Home, ttl: int, *, timeout: float, on_lost: Callable[[AsyncLease], object] | None = None
    ) -> None:
        self._home = home
        self._ttl = checked_ttl(ttl)
        self._timeout = timeout
        self._on_lost = on_lost
        self._given: Tenure | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.lost = AsyncLost(lambda: self.tenure)

    @property
    def tenure(self) -> Tenure:
        """What is known of its time.

        Raises:
            RuntimeError: it was not granted yet.
        """
        if self._given is None:
            raise RuntimeError(_NOT_GRANTED)
        return self._given

    @property
    def is_granted(self) -> bool:
        return self._given is not None

    @property
    def id(self) -> int:
        """The lease's id, as other clients see it (in hexadecimal, mostly)."""
        return self.tenure.lease_id

    @property
    def ttl(self) -> int:
        """Seconds, as granted: no less than asked for."""
        return self.tenure.granted_ttl

    def remaining(self) -> float:
        """Seconds for which the lease is surely ours if no renewal comes through from now on. Asks no server."""
        return self.tenure.remaining()

    def require(self) -> None:
        """Return if the lease is ours still, by our own clock.

        Raises:
            LeaseLost: it is not.
        """
        self.tenure.require()

    def __index__(self) -> int:
        """For `put(..., lease=lease)`.

        Raises:
            LeaseLost: it is ours no more.
        """
        self.tenure.require()
        return self.tenure.lease_id

    async def start(self) -> None:
        """Have it granted, and keep it alive from then on. Idempotent."""
        if self._given is not None:
            return
        lease_id = secrets.randbits(_ID_BITS) or 1
        sent_at = now()
        granting = asyncio.ensure_future(self._grant(lease_id))
        try:
            ttl = await asyncio.shield(granting)
        except asyncio.CancelledError:
            with contextlib.suppress(Cancelled):  # Of a client that is closed: the lease goes by itself.
                self._home.usable().spawn(self._undo(granting, lease_id))
            raise
        self._given = Tenure(lease_id, ttl, sent_at=sent_at)
        self._home.add(self)

    async def _grant(self, lease_id: int) -> int:
        try:
            return await repeated(self._home, lambda: lease_calls.grant(lease_id, self._ttl), self._timeout)
        except FailedPrecondition as error:
            if error.message != LEASE_EXISTS:
                raise
            # An earlier attempt of this very call was carried out.
            return await repeated(self._home, lambda: lease_calls.granted_ttl(lease_id), self._timeout)

    async def _undo(self, granting: asyncio.Future[int], lease_id: int) -> None:
        """Whoever wanted the lease has gone: nobody would ever revoke it."""
        with contextlib.suppress(RequestError):
            await granting
            await repeated(self._home, lambda: lease_calls.revoke(lease_id), self._timeout)

    async def keys(self, *, timeout: float | None = None) -> tuple[bytes, ...]:
        """The keys that hang on it."""
        seconds = self._timeout if timeout is None else timeout
        return await self._home.usable().perform(lease_calls.keys(self.id), seconds)

    async def revoke(self, *, timeout: float | None = None) -> None:
        """Give it back: its keys are deleted. Idempotent; nothing where the lease is another process's (after a fork).

        Raises:
            RequestError: nobody answered; the lease is renewed no more, and goes by itself.
        """
        if self._given is None or self._is_elsewhere:
            return
        self.stop_keeping("it was revoked")
        try:
            await repeated(
                self._home,
                lambda: lease_calls.revoke(self.id),
                self._timeout if timeout is None else timeout,
            )
        except NotFound:
            return

    async def release(self) -> None:
        """Revoke it as far as that is possible within RELEASE_S: what cannot be revoked now goes by itself."""
        try:
            await self.revoke(timeout=RELEASE_S)
        except (Unavailable, DeadlineExceeded, Cancelled):
            return

    def stop_keeping(self, why: str) -> None:
        """Renew it no more. On the loop."""
        self.tenure.end(why, is_lost=False)
        self._home.discard(self)
        if self._keeper is not None:
            self._keeper.cancel()

    async def while_ours(self, work: Awaitable[T]) -> T:
        """Do something, and give it up when the lease is lost.

        Raises:
            LeaseLost: it was lost.
        """
        working = asyncio.ensure_future(work)
        losing = asyncio.ensure_future(self.lost.wait())
        try:
            await asyncio.wait((working, losing), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                self.require()
            return await working
        finally:
            working.cancel()
            losing.cancel()
            await asyncio.gather(working, losing, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    def __await__(self) -> Generator[Any, None, Self]:
        yield from self.start().__await__()
        return self

    def __repr__(self) -> str:
        if self._given is None:
            return f"<raftkv lease of {self._ttl} s, not granted yet>"
        return f"<raftkv lease {self.id:016x}{' (gone)' if self._given.is_over else ''}>"

    # The task ---------------------------------------------------------------------------------------------------------

    _is_elsewhere = False

    def move_in(self, engine: Engine) -> None:
        """Keep it alive on this loop."""
        self._keeper = engine.spawn(self._keep(engine))

    def leave_behind(self, why: str, *, is_forked: bool) -> None:
        """Nobody keeps it alive here any more: the client is closed, or this is a child and it is the parent's."""
        if is_forked:
            self._is_elsewhere = True
            self.tenure.leave_behind(why)
        else:
            self.tenure.end(why, is_lost=False)

    async def _keep(self, engine: Engine) -> None:
        tenure = self.tenure
        try:
            while not tenure.is_over:
                await asyncio.sleep(tenure.renew_in())
                await self._renew(engine, tenure)
        finally:
            self._keeper = None  # It would keep gRPC's objects alive, and with them the threads that no fork survives.
        tenure.end("", is_lost=True)  # To tell the listeners.
        self._home.discard(self)
        if tenure.is_lost and self._on_lost is not None:
            self._on_lost(self)

    async def _renew(self, engine: Engine, tenure: Tenure) -> None:
        """Renew it, or try to: as often as there is time for."""
        remaining_s = tenure.remaining()
        if not remaining_s:
            return
        sent_at = now()
        try:
            ttl = await engine.perform(lease_calls.keep_alive(tenure.lease_id), _attempt_s(remaining_s))
        except NotFound:
            ttl = 0
        except (
            RequestError
        ):  # Whatever it is: there is time for another attempt, or the lease is lost, which says enough.
            await asyncio.sleep(min(PAUSE_S, tenure.remaining()))
            return
        if ttl > 0:
            tenure.renewed(ttl, sent_at=sent_at)
        else:
            tenure.end("it expired or was revoked, the server says", is_lost=True)


def checked_ttl(ttl: int) -> int:
    """A TTL as it may be asked for.

    Raises:
        ConfigError: it is not a whole number of seconds greater than 0.
    """
    if not isinstance(ttl, int) or isinstance(ttl, bool) or not 0 < ttl < 2**63:
        raise ConfigError(f"ttl is {ttl!r}; it must be a whole number of seconds greater than 0")
    return ttl


def checked_wait(timeout: float | None) -> float | None:
    """How long somebody may wait for a turn, or for ever.

    Raises:
        ConfigError: it is not a positive number of seconds.
    """
    if timeout is not None and not 0 < timeout <= 1e9:
        raise ConfigError(
            f"timeout is {timeout!r}; it must be a number of seconds greater than 0, or None for no limit"
        )
    return timeout


def not_in_time(what: str, timeout: float | None) -> DeadlineExceeded:
    """For waits that the caller limited."""
    return DeadlineExceeded(f"{what} within {timeout:g} s", outcome=Outcome.NOT_APPLIED)
