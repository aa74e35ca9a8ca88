"""What a lock and an election have in common: standing in a queue, having what it leads to for a while, and letting go of it.

    start ─► enter ─► wait for those before us ─► ours ─► let go, or lost with the lease
              └───────────── give up ◄─────────────┘

What may not live here: the queue (`contending`), the lease (`leasing`), threads (`contender_sync`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

from raftkv.client.calls import Key
from raftkv.client.contending import Contention, Place
from raftkv.client.leasing import RELEASE_S, AsyncLease, AsyncLost, Home, not_in_time
from raftkv.client.tenure import Tenure
from raftkv.client.transaction import Condition
from raftkv.errors import RequestError


@dataclass(frozen=True, slots=True)
class Hold:
    """What is ours, or was last: our place in the queue, and the tenure of the lease that it hangs on."""

    place: Place
    tenure: Tenure


class AsyncContender:
    """One who stands in a queue, for asyncio.

    Attributes:
        name: as given.
        lost: an event: the lease that our place hangs on is gone, and so is what it gave us.
    """

    NEVER_OURS: ClassVar[str]
    """What is said to somebody who asks for what was never ours."""

    def __init__(
        self,
        home: Home,
        name: Key,
        ttl: int,
        *,
        timeout: float,
        lease: AsyncLease | None,
        on_lost: Callable[[Any], object] | None,
    ) -> None:
        """Args:
        home: where calls are made.
        name: of the queue.
        ttl: seconds, of the lease.
        timeout: seconds for each call.
        lease: one that is there already, and is not revoked when we let go.
        on_lost: called with this contender when the lease of its own is lost.
        """
        self.name = name
        self._home = home
        self._contention = Contention(home, name, timeout=timeout)
        self._ttl = ttl
        self._timeout = timeout
        self._on_lost = on_lost
        self._lends = lease
        self._lease = self._make_lease() if lease is None else lease
        self._place: Place | None = None
        self._hold: Hold | None = None
        self._left_behind: Place | None = None
        """Not wanted any more, and not deleted yet: on a lease that is lent it would stay for as long as that is renewed."""
        self._is_ours = False
        self._standing: asyncio.Task[Any] | None = None
        self._entering: asyncio.Future[tuple[Place, bytes]] | None = None
        self.lost = AsyncLost(lambda: self.hold.tenure)

    @property
    def hold(self) -> Hold:
        """What is ours, or was last.

        Raises:
            RuntimeError: it never was.
        """
        if self._hold is None:
            raise RuntimeError(self.NEVER_OURS)
        return self._hold

    @property
    def key(self) -> bytes:
        """The key that stands for us while it is ours."""
        return self.hold.place.key

    @property
    def fencing_token(self) -> int:
        """The create revision of our key: every later owner's is greater. Can be read after it was lost, too."""
        return self.hold.place.revision

    @property
    def fence(self) -> Condition:
        """For transactions: it is ours still, and was not somebody else's meanwhile."""
        return self.hold.place.is_held

    @property
    def is_ours(self) -> bool:
        """Whether it is ours, by our own clock. Asks no server."""
        return self._is_ours and not self.hold.tenure.is_over

    def require(self) -> None:
        """Return if it is ours still, by our own clock.

        Raises:
            LeaseLost: it is not.
        """
        self.hold.tenure.require()

    async def settled(self) -> None:
        """Return when nobody stands in the queue any more, one who was cancelled included; be it while a fork was made."""
        if self._standing is not None:
            await asyncio.wait((self._standing,))
        if self._entering is not None and not self._is_ours:
            await self._give_up_quietly()

    async def end(self, *, is_quiet: bool) -> None:
        """Of a `with` block: let go, at once or, where nobody answers, when the lease of our own ends.

        Raises:
            LeaseLost: it was lost meanwhile, unless `is_quiet`.
            RequestError: our key on a lease that is lent could not be deleted, unless `is_quiet`; `_let_go` may be tried again.
        """
        if not self._is_ours and self._left_behind is None:
            return
        if is_quiet:
            await self._give_up_quietly()
            return
        try:
            self.require()
        finally:
            await self._give_up()

    async def _stand(self, value: bytes, wait: float | None, otherwise: str) -> None:
        """Queue, and wait until it is ours.

        Args:
            value: what our key holds.
            wait: seconds; None: for as long as it takes.
            otherwise: what is said where that is not long enough.
        """
        engine = self._home.usable()
        self._standing = asyncio.current_task()
        try:
            async with asyncio.timeout(wait):
                await self._come_first(value)
        except TimeoutError:
            await self._give_up()
            raise not_in_time(otherwise, wait) from None
        except BaseException:
            # A client that is closed has nothing to give up with; one that has a fork to make goes on from our place.
            if not engine.is_closed:
                await self._give_up_quietly()
            raise
        finally:
            self._standing = None

    async def _come_first(self, value: bytes) -> None:
        if self._lends is None and self._lease.is_granted and self._lease.tenure.is_over:  # Of an earlier time.
            self._lease = self._make_lease()
        lease = self._lease
        await lease.start()
        await self._leave(self._timeout)
        self._place = None  # Of an earlier time.
        # To its end, whoever is cancelled: else nobody would know whether a lease that is lent has a key to be deleted.
        self._entering = asyncio.ensure_future(self._contention.enter(lease, value))
        place, said = await lease.while_ours(asyncio.shield(self._entering))
        self._place = place
        if said != value:
            await lease.while_ours(self._contention.say(place, lease, value))
        await self._contention.turn(place, lease)
        self._hold = Hold(place, lease.tenure)
        self._is_ours = True

    async def _let_go(self) -> None:
        """Let the next one have it. Nothing where it is not ours.

        Raises:
            RequestError: nobody answered; it goes by itself when its lease does. Where that is lent, let go again.
        """
        if self._is_ours:
            self._is_ours = False
            if self._lends is None:
                lease, self._lease = self._lease, self._make_lease()
                await lease.revoke()
                return
            self._left_behind, self._place = self.hold.place, None
        await self._leave(self._timeout)

    async def _give_up(self) -> None:
        """Leave the queue, or what it led to. A key on a lease of our own may go with that, later.

        Raises:
            RequestError: a key on a lease that is lent could not be deleted within RELEASE_S.
        """
        self._is_ours = False
        place, self._place = self._place, None
        entering, self._entering = self._entering, None
        if self._lends is None:
            lease, self._lease = self._lease, self._make_lease()
            await lease.release()
        if entering is not None and place is None and not entering.cancelled():  # By the end of an earlier loop.
            with contextlib.suppress(RequestError):
                place, _ = await entering
        if self._lends is not None and place is not None:
            self._left_behind = place
        await self._leave(RELEASE_S)

    async def _give_up_quietly(self) -> None:
        """While something else is being raised, which says more."""
        with contextlib.suppress(RequestError):
            await self._give_up()

    async def _leave(self, timeout: float) -> None:
        """Delete what was left behind, unless it goes by itself: its lease is renewed no more, or is another process's, as its key is.

        Raises:
            RequestError: nobody answered in time; it is left behind still.
        """
        if self._left_behind is not None:
            assert self._lends is not None, "a key on a lease of our own goes with that"
            if not self._lends.tenure.is_over:
                await self._contention.leave(self._left_behind, timeout=timeout)
            self._left_behind = None

    def _make_lease(self) -> AsyncLease:
        on_lost = self._on_lost
        told = None if on_lost is None else (lambda _: on_lost(self))
        return AsyncLease(self._home, self._ttl, timeout=self._timeout, on_lost=told)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end(is_quiet=error is not None)
