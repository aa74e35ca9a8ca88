"""All watches of a node: live ones hear of changes as they are applied, the others catch up from history.

Whoever drives it (`raftkv.server.watch`) gives it the slices it has read, asks it what to read next, and calls `step` until
nothing is left to do. It runs on one thread and never waits.

What may not live here: gRPC, LMDB, clocks.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from raftkv.mvcc.history import Change, ChangeReader, ChangeSlice
from raftkv.mvcc.schema import NEVER_COMPACTED
from raftkv.pb import rpc_pb2
from raftkv.watch import responses
from raftkv.watch.group import WatcherGroup
from raftkv.watch.limits import WatchLimits
from raftkv.watch.outbox import Outbox, surely_refused
from raftkv.watch.watcher import Watcher, is_empty, watched_range

DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"
EMPTY_RANGE = "mvcc: watcher range is empty"
TOO_MANY = "etcdserver: too many watches: this connection has {count}, the limit (--max-watches-per-connection)"
REMOVALS_PER_STEP = 200
"""Taking a watcher out of a group, or moving it to another, costs some 20 µs."""


class _Run:
    """A cohort that is being read forward: its place, and the slice that is being given out."""

    def __init__(self, revision: int, group: WatcherGroup) -> None:
        self.group = group
        self.reader = ChangeReader(revision)
        self.revision = revision
        """Everything below has been given to everybody in the group."""
        self.previous = group.previous_count > 0
        self.wants_read = True
        self.slice: ChangeSlice | None = None
        self.changes: Iterator[list[Change]] = iter(())
        self.ahead: list[int] = []
        """Places of other cohorts that this slice reaches, the nearest last."""


class Hub:
    """The watches of a node.

    Attributes:
        frontier: live watchers have been given everything up to this revision.
        wants_previous: some watcher wants previous values; live slices should have them.

    Invariants: a watcher is in exactly one of: the live group, a cohort, the run, its outbox's parked ones. A live
    watcher's `next_revision` is above the frontier it joined at; what is below is not given to it.
    """

    def __init__(self, limits: WatchLimits, header: responses.Header) -> None:
        self._limits = limits
        self._header = header
        self.frontier = 0
        self.wants_previous = False
        self._live = WatcherGroup()
        self._live_slice: ChangeSlice | None = None
        self._live_changes: Iterator[list[Change]] = iter(())
        self._cohorts: dict[int, WatcherGroup] = {}
        """By the revision they go on from; the one that has waited longest first."""
        self._run: _Run | None = None
        self._resuming: deque[Outbox] = deque()
        self._closing: deque[Outbox] = deque()
        self._progress_due: dict[Outbox, None] = {}
        self._count_by_client: Counter[str] = Counter()

    @property
    def watch_count(self) -> int:
        return sum(self._count_by_client.values())

    # What streams ask -------------------------------------------------------------------------------------------------

    def create(
        self, outbox: Outbox, request: rpc_pb2.WatchCreateRequest, *, revision: int, compact_revision: int
    ) -> None:
        """Begin a watch.

        Args:
            outbox: the stream's; the answer goes there.
            request: as it came.
            revision: the store's, read after the request had come: "from now on" is from the revision behind it.
            compact_revision: the store's, read with it.
        """
        if outbox.is_closed:
            return
        header = self._header(revision)
        reason = self._reason_to_refuse(outbox, request)
        if reason:
            outbox.put(responses.refused(header, reason))
            return
        watcher = Watcher(request, self._choose_id(outbox, request.watch_id), outbox)
        outbox.put(responses.created(header, watcher.watch_id))
        start = request.start_revision or revision + 1
        if start < compact_revision:
            outbox.put(responses.compacted(self._header(0), watcher.watch_id, compact_revision))
            return
        if start < 0:  # Not below the -1 of a store that was never compacted: etcd takes it for "from now on".
            start = revision + 1
        outbox.watchers[watcher.watch_id] = watcher
        self._count_by_client[outbox.client] += 1
        self.wants_previous |= watcher.previous
        watcher.next_revision = start
        if start == compact_revision:
            watcher.tolerated_revision = start
        outbox.behind_count += 1
        self._place(watcher)

    def cancel(self, outbox: Outbox, watch_id: int) -> None:
        """End a watch; an id that is not known is no mistake: the watch may have ended by itself."""
        watcher = outbox.watchers.get(watch_id)
        if watcher is not None:
            self._remove(watcher)
            outbox.put(responses.canceled(self._header(self.frontier), watch_id))

    def request_progress(self, outbox: Outbox, revision: int) -> None:
        """Tell the stream when all its watches have been given everything up to `revision`, the store's present one."""
        if not outbox.watchers:
            outbox.put(responses.progress(self._header(revision), responses.PROGRESS_ID))
            return
        outbox.progress_due = revision
        self._progress_due[outbox] = None
        self._tell_progress()

    def notify_progress(self) -> None:
        """Once in an interval: tell every live watch that asked for it, and was sent nothing since, how far it is."""
        for watcher in self._live:
            if watcher.progress:
                is_there = watcher.next_revision <= self.frontier + 1
                if is_there and not watcher.has_progress and not watcher.outbox.is_full:
                    watcher.outbox.put(responses.progress(self._header(self.frontier), watcher.watch_id))
                watcher.has_progress = False

    def has_room(self, outbox: Outbox) -> None:
        """The stream has sent enough: its parked watches go on."""
        if outbox.parked and not outbox.is_closed:
            self._resuming.append(outbox)

    def close(self, outbox: Outbox) -> None:
        """The stream is over."""
        outbox.close()
        self._closing.append(outbox)

    # What is read -----------------------------------------------------------------------------------------------------

    def begin(self, revision: int) -> None:
        """Live changes come from behind this revision on."""
        self.frontier = revision
        self.wants_previous = False
        self._live_slice = None

    @property
    def wants_live(self) -> bool:
        """The last live slice has been given out; the next may be read."""
        return self._live_slice is None

    def live(self, found: ChangeSlice) -> None:
        """The changes behind the last live slice; if history was gone there, the next one is behind `found.present`."""
        assert self._live_slice is None, "a live slice before the last was given out"
        if found.removed_revision > self.frontier:
            self._lose_live(found.present)
            return
        self._live_slice = found
        self._live_changes = _by_revision(found.changes)

    def next_read(self) -> tuple[ChangeReader, bool] | None:
        """The place to read history from, and whether with previous values; `caught_up` takes what is found there.

        None: nobody is behind, or what was asked for is under way or not given out yet.
        """
        while self._run is None and self._cohorts:
            revision = next(iter(self._cohorts))
            group = self._cohorts.pop(revision)
            if group:  # Else all its watches have been canceled.
                self._run = _Run(revision, group)
        run = self._run
        if run is None or not run.wants_read:
            return None
        run.wants_read = False
        return run.reader, run.previous

    def caught_up(self, found: ChangeSlice) -> None:
        """What `next_read` had asked for."""
        run = self._run
        assert run is not None, "a slice of history that nobody waits for"
        if run.revision < found.compact_revision or run.revision <= found.removed_revision:
            self._cancel_compacted(run, found)
        run.slice = found
        run.changes = _by_revision(found.changes)
        run.ahead = sorted((r for r in self._cohorts if run.revision < r <= found.through + 1), reverse=True)

    # Work -------------------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Do a bounded piece of what there is to do; True while there is more."""
        self._step_closing()
        self._step_resuming()
        self._step_live(self._limits.deliveries_per_step)
        self._step_run(self._limits.deliveries_per_step)
        if self._progress_due:
            self._tell_progress()
        run_is_ready = self._run is not None and self._run.slice is not None
        return bool(self._closing or self._resuming or self._live_slice is not None or run_is_ready)

    def _step_closing(self) -> None:
        budget = REMOVALS_PER_STEP
        while self._closing and budget:
            outbox = self._closing[0]
            while outbox.watchers and budget:
                self._remove(next(iter(outbox.watchers.values())))
                budget -= 1
            if not outbox.watchers:
                self._closing.popleft()
                self._progress_due.pop(outbox, None)

    def _step_resuming(self) -> None:
        budget = REMOVALS_PER_STEP
        while self._resuming and budget:
            outbox = self._resuming[0]
            while outbox.parked and budget and not outbox.is_full:
                watcher, _ = outbox.parked.popitem()
                self._place(watcher)
                budget -= 1
            if not outbox.parked or outbox.is_full:  # If it is full again, it says so again when it has room.
                self._resuming.popleft()

    def _step_live(self, budget: int) -> None:
        found = self._live_slice
        if found is None:
            return
        while budget > 0:
            changes = next(self._live_changes, None)
            if changes is None:
                self.frontier = found.through
                self._live_slice = None
                return
            revision = changes[0].revision
            budget -= 1 + self._give_out(self._live, changes, found, revision)
            self.frontier = revision

    def _step_run(self, budget: int) -> None:
        run = self._run
        if run is None or run.slice is None:
            return
        found = run.slice
        while budget > 0:
            changes = next(run.changes, None)
            if changes is None:
                self._pick_up(run, found.through + 1)
                run.revision = max(run.revision, found.through + 1)
                self._end_slice(run)
                return
            revision = changes[0].revision
            self._pick_up(run, revision)
            budget -= 1 + self._give_out(run.group, changes, found, found.present)
            run.revision = revision + 1

    def _pick_up(self, run: _Run, revision: int) -> None:
        """Cohorts that go on from a place the run has reached come along."""
        while run.ahead and run.ahead[-1] <= revision:
            group = self._cohorts.pop(run.ahead.pop(), None)
            if group is None:
                continue
            if len(group) > len(run.group):
                run.group, group = group, run.group
            _move(group, run.group)

    def _end_slice(self, run: _Run) -> None:
        """A slice is given out: who has reached the frontier is live, some at a time; the others wait for their next turn."""
        for _ in range(REMOVALS_PER_STEP):
            if run.revision <= self.frontier or not run.group:
                break
            watcher = run.group.take()
            assert watcher is not None
            watcher.next_revision = max(watcher.next_revision, run.revision)
            self._go_live(watcher)
        if run.group and run.revision > self.frontier:
            return  # Goes on with the next step.
        run.slice = None
        if run.group and run.reader.is_inside:
            run.wants_read = True
            return
        self._run = None
        if run.group:
            self._wait_in_cohort(run)

    def _wait_in_cohort(self, run: _Run) -> None:
        waiting = self._cohorts.get(run.revision)
        if waiting is None:
            self._cohorts[run.revision] = run.group
        else:
            _move(run.group, waiting)

    # Giving out -------------------------------------------------------------------------------------------------------

    def _give_out(self, group: WatcherGroup, changes: list[Change], found: ChangeSlice, header_revision: int) -> int:
        """All changes of one revision to those of a group who want them; how many there were.

        A revision may have any number of changes, and every watcher may want them all: those for whom there will be no room are
        parked on the way, so that no more is gathered than about twice what can be taken.
        """
        revision = changes[0].revision
        wanted: dict[Watcher, list[bytes]] = {}
        lacking: dict[Watcher, None] = {}
        held, look_at, parked_count = 0, self._limits.events_gathered, 0
        for change in changes:
            if held >= look_at:
                refused = surely_refused(wanted)
                for watcher in refused:
                    del wanted[watcher]
                    self._park(watcher, revision)
                parked_count += len(refused)
                held = sum(map(len, wanted.values()))
                look_at = max(2 * held, self._limits.events_gathered)
            plain = full = b""
            for watcher in group.watching(change.key):
                if revision < watcher.next_revision or not (watcher.puts if change.is_put else watcher.deletes):
                    continue
                if not watcher.previous:
                    event = plain = plain or responses.event_of(change, previous=False)
                elif found.has_previous:
                    event = full = full or responses.event_of(change, previous=True)
                else:
                    lacking[watcher] = None
                    continue
                wanted.setdefault(watcher, []).append(event)
                held += 1
        for watcher, events in wanted.items():
            if not watcher.outbox.offer(watcher, events, header_revision):
                self._park(watcher, revision)
        for watcher in lacking:  # It came after this slice was read: it reads the revision for itself.
            self._leave(watcher, revision)
            self._place_behind(watcher)
        return len(wanted) + len(lacking) + parked_count

    # Places -----------------------------------------------------------------------------------------------------------

    def _place(self, watcher: Watcher) -> None:
        """A watcher that is counted as behind, and nowhere: to the live ones if it has missed nothing, else to a cohort."""
        if watcher.next_revision > self.frontier:
            self._go_live(watcher)
        else:
            self._place_behind(watcher)

    def _place_behind(self, watcher: Watcher) -> None:
        cohort = self._cohorts.get(watcher.next_revision)
        if cohort is None:
            cohort = self._cohorts[watcher.next_revision] = WatcherGroup()
        cohort.add(watcher)

    def _go_live(self, watcher: Watcher) -> None:
        self._live.add(watcher)
        watcher.outbox.behind_count -= 1

    def _leave(self, watcher: Watcher, revision: int) -> None:
        """Out of its group, to go on from `revision`; counted as behind."""
        assert watcher.group is not None, f"watch {watcher.watch_id} is in no group"
        if watcher.group is self._live:
            watcher.outbox.behind_count += 1
        watcher.group.remove(watcher)
        watcher.next_revision = revision

    def _park(self, watcher: Watcher, revision: int) -> None:
        self._leave(watcher, revision)
        watcher.outbox.parked[watcher] = None

    def _remove(self, watcher: Watcher) -> None:
        """The watch is over."""
        outbox = watcher.outbox
        if watcher.group is self._live:
            outbox.behind_count += 1
        if watcher.group is not None:
            watcher.group.remove(watcher)
        outbox.parked.pop(watcher, None)
        outbox.behind_count -= 1
        del outbox.watchers[watcher.watch_id]
        self._count_by_client[outbox.client] -= 1
        if not self._count_by_client[outbox.client]:
            del self._count_by_client[outbox.client]

    # History that is gone ---------------------------------------------------------------------------------------------

    def _cancel_compacted(self, run: _Run, found: ChangeSlice) -> None:
        """What the run should read next is gone, or may be: those are told who have not asked for just that."""
        for watcher in list(run.group):
            is_told = watcher.tolerated_revision == run.revision == found.compact_revision
            if not is_told:
                self._remove(watcher)
                response = responses.compacted(self._header(0), watcher.watch_id, found.compact_revision)
                watcher.outbox.put(response)

    def _lose_live(self, present: int) -> None:
        """History went away under the live watchers (a snapshot was installed): they find out by reading it."""
        first_missed = self.frontier + 1
        live, self._live = self._live, WatcherGroup()
        self.frontier = present
        for watcher in list(live):
            live.remove(watcher)
            watcher.outbox.behind_count += 1
            watcher.next_revision = max(watcher.next_revision, first_missed)
            self._place(watcher)

    # ------------------------------------------------------------------------------------------------------------------

    def _reason_to_refuse(self, outbox: Outbox, request: rpc_pb2.WatchCreateRequest) -> str:
        if self._count_by_client[outbox.client] >= self._limits.watches_per_connection:
            return TOO_MANY.format(count=self._limits.watches_per_connection)
        if is_empty(*watched_range(request)):
            return EMPTY_RANGE
        if request.watch_id and request.watch_id in outbox.watchers:
            return DUPLICATE_ID
        return ""

    def _choose_id(self, outbox: Outbox, asked: int) -> int:
        if asked:
            return asked
        while outbox.next_id in outbox.watchers:
            outbox.next_id += 1
        outbox.next_id += 1
        return outbox.next_id - 1

    def _tell_progress(self) -> None:
        for outbox in list(self._progress_due):
            if not outbox.behind_count and self.frontier >= outbox.progress_due:
                del self._progress_due[outbox]
                outbox.put(responses.progress(self._header(self.frontier), responses.PROGRESS_ID))


def _by_revision(changes: list[Change]) -> Iterator[list[Change]]:
    """Changes in order, as lists of one revision each."""
    same: list[Change] = []
    for change in changes:
        if same and change.revision != same[0].revision:
            yield same
            same = []
        same.append(change)
    if same:
        yield same


def _move(group: WatcherGroup, to: WatcherGroup) -> None:
    while (watcher := group.take()) is not None:
        to.add(watcher)


assert NEVER_COMPACTED < 0, "a start revision of 0 is never below the compact revision of a store never compacted"
