"""The sync face: methods that block. The docstrings here hold for the async face too.

What may not live here: anything but turning a method into an operation and handing it to the runner.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self, SupportsIndex

from raftkv.client import calls, lease_calls
from raftkv.client.address import parse_endpoints
from raftkv.client.calls import Key, Sort, Value
from raftkv.client.electing_sync import Election
from raftkv.client.leasing_sync import Lease
from raftkv.client.limits import Limits
from raftkv.client.locking_sync import Lock
from raftkv.client.maintenance import Maintenance, Target
from raftkv.client.operation import Operation, T
from raftkv.client.pages import Pages
from raftkv.client.runner import Runner
from raftkv.client.transaction import OPERATIONS, KeyReference, Operations, TxnBuilder
from raftkv.client.values import (
    CompactResult,
    DeleteResult,
    HashResult,
    KeyValue,
    Member,
    PutResult,
    Status,
    TxnResult,
)
from raftkv.client.watch_cursor import Only, WatchCursor, watch_request
from raftkv.client.watching_sync import Watch
from raftkv.errors import ConfigError

DEFAULT_TIMEOUT_S = 5.0


def connect(
    endpoints: str | Iterable[str] | None = None, *, timeout: float = DEFAULT_TIMEOUT_S, limits: Limits | None = None
) -> Client:
    """A client of a cluster. Connects when it is first used.

    Args:
        endpoints: "HOST:PORT" or "http://HOST:PORT", several as a list or separated by commas. None: the environment
            variable RAFTKV_ENDPOINTS, or else 127.0.0.1:2379. The first that answers is used while it works.
        timeout: seconds within which every call ends, failover included, unless the call says otherwise.
        limits: bounds of queue and batches.

    Raises:
        ConfigError: an endpoint or a timeout is malformed.
    """
    return Client(parse_endpoints(endpoints), timeout=timeout, limits=limits)


def checked_timeout(timeout: float) -> float:
    """A timeout as it may be.

    Raises:
        ConfigError: it is not a positive number of seconds.
    """
    if not 0 < timeout <= 1e6:
        raise ConfigError(f"timeout is {timeout!r}; it must be a number of seconds greater than 0")
    return timeout


class Client:
    """A client of a cluster, for any number of threads; made by `raftkv.connect`.

    Every method takes `timeout=` in seconds and raises errors of the tree in `raftkv.errors`. A write that raises says
    what became of it: `error.outcome` is NOT_APPLIED or UNKNOWN. After a fork the client works in parent and child.
    """

    op: Operations = OPERATIONS

    def __init__(self, endpoints: tuple[str, ...], *, timeout: float, limits: Limits | None = None) -> None:
        self.endpoints = endpoints
        self._closed = True  # Until there is something to close: see __del__.
        self._timeout = checked_timeout(timeout)
        self._runner = Runner(endpoints, limits or Limits())
        self._closed = False

    def put(
        self, key: Key, value: Value, *, lease: SupportsIndex = 0, previous: bool = False, timeout: float | None = None
    ) -> PutResult:
        """Store a value.

        Args:
            key: text is sent as UTF-8.
            value: text is sent as UTF-8.
            lease: the key goes when this lease goes; from `lease()`, or the id of one.
            previous: return what the key held before.
            timeout: seconds.

        Raises:
            LeaseLost: the lease is ours no more; nothing was sent.
            RequestError: with its outcome.
        """
        return self._run(calls.put(key, value, lease=lease, previous=previous), timeout)

    def get(
        self, key: Key, *, revision: int = 0, serializable: bool = False, timeout: float | None = None
    ) -> KeyValue | None:
        """Read one key; None where it does not exist.

        Args:
            key: text is sent as UTF-8.
            revision: read as of this revision; 0 means now.
            serializable: let the endpoint answer from its own state, which may be old, without asking the others.
            timeout: seconds.

        Raises:
            Compacted: `revision` was compacted away.
            FutureRevision: `revision` has not happened yet.
        """
        return self._run(calls.get(key, revision=revision, serializable=serializable), timeout)

    def range(
        self,
        start: Key | None = None,
        end: Key | None = None,
        *,
        prefix: Key | None = None,
        limit: int | None = None,
        revision: int = 0,
        sort: Sort = "key",
        descending: bool = False,
        keys_only: bool = False,
        serializable: bool = False,
        timeout: float | None = None,
    ) -> Range:
        """Iterate over keys, lazily and in pages, all at one revision.

        Args:
            start: the first key, None for the first there is.
            end: ends before this key, None for after the last there is.
            prefix: instead of start and end, all keys that begin with it.
            limit: stop after so many.
            revision: read as of this revision; 0 means the one current when the first page is read.
            sort: by what. Only ascending order of keys comes in pages, the others in one answer.
            descending: the other way round.
            keys_only: leave the values out.
            serializable: let the endpoint answer from its own state, which may be old.
            timeout: seconds for each page.

        Raises:
            Compacted: while iterating, the revision was compacted away.
        """
        request = calls.range_request(
            start,
            end,
            prefix=prefix,
            limit=limit,
            revision=revision,
            sort=sort,
            descending=descending,
            keys_only=keys_only,
            serializable=serializable,
        )
        return Range(self, Pages(request), timeout)

    def count(
        self,
        start: Key | None = None,
        end: Key | None = None,
        *,
        prefix: Key | None = None,
        revision: int = 0,
        serializable: bool = False,
        timeout: float | None = None,
    ) -> int:
        """How many keys a range holds."""
        operation = calls.count(start, end, prefix=prefix, revision=revision, serializable=serializable)
        return self._run(operation, timeout)

    def delete(
        self,
        key: Key | None = None,
        *,
        prefix: Key | None = None,
        end: Key | None = None,
        previous: bool = False,
        timeout: float | None = None,
    ) -> DeleteResult:
        """Remove one key, the keys from `key` up to before `end`, or all keys with a prefix (`prefix=""`: all there are)."""
        return self._run(calls.delete(key, prefix=prefix, end=end, previous=previous), timeout)

    def watch(
        self,
        key: Key | None = None,
        end: Key | None = None,
        *,
        prefix: Key | None = None,
        revision: int = 0,
        previous: bool = False,
        only: Only | None = None,
        progress: bool = False,
        timeout: float | None = None,
    ) -> Watch:
        """Hear of every change of one key, of the keys from `key` up to before `end`, or of all keys with a prefix.

            with kv.watch(prefix="config/") as events:
                for batch in events:  # all of one revision together, in order, none left out, none twice
                    for event in batch:
                        print(batch.revision, event.kind, event.key, event.value)

        It goes on by itself when servers fail or leaders change, from where it was, at whatever endpoint answers.

        Args:
            key: text is sent as UTF-8.
            end: ends before this key.
            prefix: instead of key and end, all keys that begin with it; `""`: all there are.
            revision: the first revision to hear of; 0: from now on, which is when it is entered.
            previous: with each event, what the key held before.
            only: "put" or "delete": leave the other out.
            progress: give a batch without events when the server says that nothing has happened up to a revision.
            timeout: seconds within which a server must have accepted it; after that it lasts.

        Raises:
            ConfigError: an argument is out of range, or contradicts another.
            Compacted: while iterating: `revision`, or what a watch had yet to be told of, was compacted away.
        """
        request = watch_request(key, end, prefix=prefix, revision=revision, previous=previous, only=only)
        seconds = self._seconds(timeout)
        return Watch(self._runner, WatchCursor(request, progress=progress), seconds)

    def lease(
        self, ttl: int, *, on_lost: Callable[[Lease], object] | None = None, timeout: float | None = None
    ) -> Lease:
        """A lease: keys that hang on it go when it goes. It is renewed in the background until it is revoked.

            with kv.lease(10) as lease:  # revoked at the end of the block
                kv.put("alive/me", "", lease=lease)
                while not lease.lost.wait(1): ...

        It survives failovers, and a fork: in the parent. It is *lost*, for good, when no renewal was confirmed within its TTL,
        counted by this machine's own clock from when the request for the last confirmed one was sent: never later than for
        the servers.

        Args:
            ttl: seconds for which it lives without being renewed. Servers may grant more, and have a minimum of their own.
            on_lost: called with the lease, on a thread of its own, when it was lost; not when it is revoked.
            timeout: seconds for each of its calls.

        Raises:
            ConfigError: `ttl` is no whole number of seconds greater than 0.
            RequestError: it was not granted.
        """
        return Lease(self._runner, ttl, timeout=self._seconds(timeout), on_lost=on_lost)

    def leases(self, *, timeout: float | None = None) -> tuple[int, ...]:
        """The ids of all leases there are."""
        return self._run(lease_calls.leases(), timeout)

    def lock(
        self,
        name: Key,
        *,
        ttl: int = 10,
        timeout: float | None = None,
        lease: Lease | None = None,
        on_lost: Callable[[Lock], object] | None = None,
    ) -> Lock:
        """A lock that one client of the cluster has at a time, in the order in which they asked.

            with kv.lock("deploy", ttl=10) as lock:
                lock.fencing_token   # greater than that of every holder before
                lock.lost            # an event: the lease could not be renewed, the lock is gone

        Whoever holds a lock can be paused at any point, by the operating system or the garbage collector, for longer than its
        lease lives. It cannot know until it runs again, so what the lock guards has to check the *fencing token*. In this
        store itself a condition does; the write is refused if the lock is not ours any more:

            done = kv.txn().when(lock.fence).then(kv.op.put("deployed", version)).commit()
            if not done.succeeded: ...  # somebody else has the lock

        Elsewhere, send `lock.fencing_token` along, and refuse a smaller one than was seen before.

        At the end of the block the lock is released; if it was lost meanwhile, LeaseLost is raised there. Locks of one name
        exclude those of `etcdctl lock` and of etcd's Go client.

        Args:
            name: of the lock; its keys are NAME/LEASE.
            ttl: seconds after which the lock of a client that is gone is free.
            timeout: seconds to wait for the lock; None: for as long as it takes.
            lease: one to hang it on, instead of one of its own; it is not revoked with the lock. A lease holds a lock once:
                two locks of one name on one lease are the same.
            on_lost: called with the lock, on a thread of its own, when its own lease was lost.

        Raises (when entered, or by `acquire`):
            DeadlineExceeded: it was not free in time.
            LeaseLost: our lease was lost while we waited.
        """
        return Lock(self._runner, name, ttl, timeout=self._timeout, wait=timeout, lease=lease, on_lost=on_lost)

    def election(self, name: Key, *, ttl: int = 10, on_lost: Callable[[Election], object] | None = None) -> Election:
        """An election: one of several candidates leads, and the next one when it resigns or dies.

            with kv.election("primary", ttl=10) as election:  # resigns at the end
                election.campaign("10.0.0.7:5432")            # returns when we lead
                while not election.lost.wait(1): ...

            for leader in kv.election("primary").observe(): print(leader.text)

        As with locks, a leader that was paused does not know that it is none any more: what it writes has to be fenced, by
        `when(election.fence)` or by `election.fencing_token`. Shares the candidates of `etcdctl elect` and of etcd's Go client.

        Args:
            name: of the election; its keys are NAME/LEASE.
            ttl: seconds after which the office of a leader that is gone is free.
            on_lost: called with the election, on a thread of its own, when its lease was lost.
        """
        return Election(self._runner, name, ttl, timeout=self._timeout, on_lost=on_lost)

    def txn(self) -> Txn:
        """Build a transaction: `kv.txn().when(...).then(...).otherwise(...).commit()`."""
        return Txn(self)

    def __getitem__(self, key: Key) -> KeyReference:
        """A key for the conditions of a transaction: `kv["config/mode"].value == b"blue"`. Reads nothing."""
        return KeyReference(key)

    def compact(self, revision: int, *, physical: bool = False, timeout: float | None = None) -> CompactResult:
        """Drop the history before `revision`; with `physical` answer when it is gone from the disk too."""
        return self._run(calls.compact(revision, physical=physical), timeout)

    def status(self, endpoint: str | None = None, *, timeout: float | None = None) -> Status:
        """What a member says of itself; without `endpoint` the one this client is connected to."""
        return self._ask(calls.status(), endpoint, timeout)

    def members(self, *, linearizable: bool = True, timeout: float | None = None) -> tuple[Member, ...]:
        """The member table."""
        return self._run(calls.members(linearizable=linearizable), timeout)

    def hash_kv(self, revision: int = 0, *, endpoint: str | None = None, timeout: float | None = None) -> HashResult:
        """A hash of a member's keys and revisions up to `revision` (0: all), equal on all members."""
        return self._ask(calls.hash_kv(revision), endpoint, timeout)

    def add_member(self, *peer_urls: str, learner: bool = False, timeout: float | None = None) -> Member:
        """Add a member; then start it with these peer URLs, an empty data directory and --initial-cluster-state existing.

        Raises:
            FailedPrecondition: a URL is taken, or too few members have started.
            Unavailable: a member does not answer ("unhealthy cluster"), or no leader was found in time.
        """
        return self._run(calls.add_member(peer_urls, learner=learner), timeout)

    def remove_member(self, member: int, *, timeout: float | None = None) -> tuple[Member, ...]:
        """Remove a member; it stops by itself. Returns those who are left.

        Raises:
            NotFound: there is no such member.
            FailedPrecondition, Unavailable: the others would have no quorum.
        """
        return self._run(calls.remove_member(member), timeout)

    def update_member(self, member: int, *peer_urls: str, timeout: float | None = None) -> tuple[Member, ...]:
        """Give a member other peer URLs.

        Raises:
            NotFound: there is no such member.
            FailedPrecondition: a URL is taken.
        """
        return self._run(calls.update_member(member, peer_urls), timeout)

    def promote_member(self, member: int, *, timeout: float | None = None) -> tuple[Member, ...]:
        """Have a learner vote.

        Raises:
            FailedPrecondition: it is no learner, or has not caught up yet.
        """
        return self._run(calls.promote_member(member), timeout)

    def move_leader(self, member: int, *, endpoint: str, timeout: float | None = None) -> None:
        """Have the leader, which serves clients at `endpoint`, hand over to the member with this id; return when that leads.

        Raises:
            FailedPrecondition: the one asked does not lead, or `member` is no voting member.
        """
        self._ask(calls.move_leader(member), endpoint, timeout)

    @property
    def maintenance(self) -> Maintenance:
        """Alarms, defragmentation."""
        return Maintenance(self)

    def snapshot(self, target: Target, *, endpoint: str | None = None, timeout: float | None = None) -> int:
        """Save a snapshot of the cluster's data, as one member has them, for `raftkv snapshot restore`; returns its size in bytes.

        Args:
            target: a path, which gets it whole or not at all; or an open binary file.
            endpoint: the member to ask; without it, the first that can be reached.
            timeout: seconds, for every wait for the member; the whole may take longer.

        Raises:
            ResourceExhausted: the member has no room for a copy of its state, or too many are being taken.
            DataLoss: it did not arrive as it was sent.
            OSError: the file cannot be written.
        """
        return self.maintenance.snapshot(target, endpoint=endpoint, timeout=timeout)

    def close(self) -> None:
        """Close the connections. Idempotent; whatever is called afterwards raises `Cancelled`, "the client is closed"."""
        self._closed = True
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self._closed = True
            self._runner.forget()

    def __repr__(self) -> str:
        return f"<raftkv client of {', '.join(self.endpoints)}{' (closed)' if self._closed else ''}>"

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else checked_timeout(timeout)

    def _run(self, operation: Operation[T], timeout: float | None) -> T:
        return self._runner.perform(operation, self._seconds(timeout))

    def _ask(self, operation: Operation[T], endpoint: str | None, timeout: float | None) -> T:
        if endpoint is None:
            return self._run(operation, timeout)
        seconds = self._seconds(timeout)
        (address,) = parse_endpoints([endpoint])
        return self._runner.run(lambda engine: engine.ask(operation, address, seconds))


class Range(Iterator[KeyValue]):
    """Iterates over a range; see `Client.range`."""

    def __init__(self, client: Client, pages: Pages, timeout: float | None) -> None:
        self._client = client
        self._pages = pages
        self._timeout = timeout
        self._items: Iterator[KeyValue] = iter(())

    @property
    def revision(self) -> int:
        """The revision that is read; 0 until the first page of a range "now" is there."""
        return self._pages.revision

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> KeyValue:
        while True:
            for item in self._items:
                return item
            page = self._pages.next_page()
            if page is None:
                raise StopIteration
            self._items = iter(self._pages.got(self._client._run(page, self._timeout)))


class Txn(TxnBuilder):
    """Builds a transaction; see `TxnBuilder`."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def commit(self, *, timeout: float | None = None) -> TxnResult:
        """Do it: atomically, at one revision.

        Raises:
            RequestError: with its outcome. Conditions that do not hold are an answer: `succeeded` is False.
        """
        return self._client._run(calls.txn(self.request), timeout)
