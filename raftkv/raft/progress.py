"""What the leader knows about one follower, and how much it may send it (three ways of sending).

    PROBE       where the logs agree is not known: one append at a time, the next after an answer or a heartbeat's
    REPLICATE   it is known: appends are pipelined, up to a number and a payload in flight
    SNAPSHOT    the follower needs entries that are gone: nothing until the shell has sent it a snapshot

    PROBE --accepted--> REPLICATE --refused, unreachable--> PROBE --entries are gone--> SNAPSHOT --sent, failed--> PROBE

What may not live here: messages, the log.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum


class ProgressState(Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class InFlight:
    """Appends that were sent and not answered: (last index, payload bytes), in sending order."""

    __slots__ = ("_bytes", "_bytes_max", "_count_max", "_sent")

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._sent: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def is_full(self) -> bool:
        return len(self._sent) >= self._count_max or self._bytes >= self._bytes_max

    def add(self, last_index: int, size_bytes: int) -> None:
        assert not self.is_full, f"append to {last_index} sent although {len(self._sent)} are in flight"
        self._sent.append((last_index, size_bytes))
        self._bytes += size_bytes

    def free_to(self, index: int) -> None:
        """Appends up to `index` have been answered."""
        while self._sent and self._sent[0][0] <= index:
            self._bytes -= self._sent.popleft()[1]

    def clear(self) -> None:
        self._sent.clear()
        self._bytes = 0


@dataclass(slots=True)
class Progress:
    """Invariant: match_index < next_index. `match_index` never falls within a term."""

    next_index: int
    in_flight: InFlight
    heard_tick: int
    """The leader's tick count when this follower last answered: CheckQuorum's evidence."""
    has_answered: bool = False
    """Whether it ever did, in this term."""
    severity: int | None = None
    """How unfit to lead it finds itself; None: it has not said yet."""
    match_index: int = 0
    state: ProgressState = ProgressState.PROBE
    probe_sent: bool = False
    commit_sent: int = 0
    """The highest commit index the follower was told."""
    moved_tick: int = 0
    """The leader's tick count when `match_index` last rose, or when that was last asked about."""
    acked_round: int = 0
    """The latest heartbeat round it answered."""
    leaves_at: int = 0
    """The entry that removes it from the membership; it should still get that one, and learn that it is committed."""
    left_tick: int = 0

    @property
    def knows_it_left(self) -> bool:
        """Whether it has the entry that removes it, and was told that this is committed."""
        return 0 < self.leaves_at <= min(self.match_index, self.commit_sent)

    @property
    def is_paused(self) -> bool:
        match self.state:
            case ProgressState.PROBE:
                return self.probe_sent
            case ProgressState.REPLICATE:
                return self.in_flight.is_full
            case ProgressState.SNAPSHOT:
                return True

    def become_probe(self, next_index: int) -> None:
        assert next_index > self.match_index, f"next {next_index} is not behind match {self.match_index}"
        self.state = ProgressState.PROBE
        self.next_index = next_index
        self.probe_sent = False
        self.in_flight.clear()

    def become_snapshot(self) -> None:
        self.state = ProgressState.SNAPSHOT
        self.probe_sent = False
        self.in_flight.clear()

    def sent(self, last_index: int, size_bytes: int) -> None:
        """An append that ends at `last_index` is on its way."""
        if self.state is ProgressState.PROBE:
            self.probe_sent = True
        elif last_index >= self.next_index:
            self.in_flight.add(last_index, size_bytes)
            self.next_index = last_index + 1

    def accepted(self, match_index: int, log_first_index: int) -> bool:
        """An acknowledgement up to `match_index` arrived; False if it is old news."""
        self.in_flight.free_to(match_index)
        advanced = match_index > self.match_index
        if advanced:
            self.match_index = match_index
            self.next_index = max(self.next_index, match_index + 1)
        if self.state is ProgressState.PROBE and match_index == self.match_index:
            self._become_replicate()
        elif self.state is ProgressState.SNAPSHOT and advanced and match_index + 1 >= log_first_index:
            self._become_replicate()  # Whatever it got there by: the log continues from here.
        return advanced

    def _become_replicate(self) -> None:
        self.state = ProgressState.REPLICATE
        self.next_index = self.match_index + 1
        self.in_flight.clear()

    def refused(self, prev_index: int, agree_index: int) -> bool:
        """An append behind `prev_index` was refused; the logs may agree up to `agree_index`. False if it is stale."""
        if self.state is ProgressState.SNAPSHOT or prev_index <= self.match_index:
            return False
        if self.state is ProgressState.REPLICATE:
            self.become_probe(self.match_index + 1)
            return True
        if prev_index != self.next_index - 1:
            return False
        self.become_probe(max(min(prev_index, agree_index + 1), self.match_index + 1))
        return True

    def check(self) -> None:
        assert self.match_index < self.next_index, f"match {self.match_index} >= next {self.next_index}"
        assert self.state is ProgressState.REPLICATE or not len(self.in_flight), f"{self.state} with appends in flight"
