"""What locks and elections have in common, for threads: the async one, run on the client's loop.

What may not live here: what a contender does (`contender`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

from raftkv.client.contender import AsyncContender
from raftkv.client.leasing_sync import Lost
from raftkv.client.runner import Runner
from raftkv.client.transaction import Condition
from raftkv.errors import RequestError

Inner = TypeVar("Inner", bound=AsyncContender)


class Contender(Generic[Inner]):
    """One who stands in a queue. For one thread at a time.

    Attributes:
        name: as given.
        lost: an event with `is_set()` and `wait(timeout)`: the lease that our place hangs on is gone, and so is what it gave us.
            Goes by this machine's own clock.
    """

    def __init__(self, runner: Runner, inner: Inner) -> None:
        self.name = inner.name
        self._runner = runner
        self._inner = inner
        self.lost = Lost(lambda: inner.hold.tenure)

    @property
    def key(self) -> bytes:
        """The key that stands for us while it is ours."""
        return self._inner.key

    @property
    def fencing_token(self) -> int:
        """The create revision of our key: every later owner's is greater. Can be read after it was lost, too."""
        return self._inner.fencing_token

    @property
    def fence(self) -> Condition:
        """For transactions: it is ours still, and was not somebody else's meanwhile."""
        return self._inner.fence

    def require(self) -> None:
        """Return if it is ours still, by our own clock.

        Raises:
            LeaseLost: it is not.
        """
        self._inner.require()

    def _stand(self, standing: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run what stands in the queue, to its end; where that is not waited for, our place is given up first."""
        try:
            self._runner.run_anew(lambda _: standing())
        except RequestError:
            raise
        except BaseException:  # Of a signal, mostly.
            self._runner.run_if_open(lambda _: self._inner.settled())
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._runner.is_closed:
            self._runner.run_anew(lambda _: self._inner.end(is_quiet=error is not None))

    def __repr__(self) -> str:
        return repr(self._inner)
