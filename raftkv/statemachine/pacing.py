"""When a slice of physical compaction is due: clients first, and yet the removal outruns the growth.

For each record that is written, the removal owes a look at `RECORDS_PER_RECORD` (more than one) of those that were compacted.
What it owes it does between two jobs of the thread, one slice at a time, so that a job waits for one slice, of about 1 ms, and
no longer. Beyond that it takes its turn when no job has come for a while, and even then it leaves most of the thread's time,
and of the processor's, which other processes may want.

Why the disk does not fill, even under a load that never ends: as long as there is something to remove, while history grows by
`n` records, `RECORDS_PER_RECORD * n` are looked at, but for what is still owed, and that is at most `OWED_SLICES_MAX` slices
and what the last job made it owe. So what has not been looked at gets no longer than it was at the compaction by more than
that; and `n` records to remove are gone by the time that `n / RECORDS_PER_RECORD` have been written. A share of time could not
promise this: how long a removal takes, and how long a put, depends on the machine and the data.

What it costs: to remove a record takes about as long as to put one, most of it for bringing LMDB's pages into the next commit.
With 20,000 puts/s that is a fifth to a quarter of the thread's time while there is something to remove, and then nothing.

Records are counted and no time is measured: the same jobs in the same order make it do the same.

What may not live here: what a slice does (`raftkv.mvcc.compaction`), and the thread (`raftkv.node.applier`).
"""

from __future__ import annotations

from collections.abc import Callable

RECORDS_PER_RECORD = 1.25
"""Looked at for each one written. With 1 it would never be done; the more, the less is left for clients until it is."""

RECORDS_PER_JOB = 2
"""Looked at for each job besides: a thread that is kept busy by reads alone gets it done too, for a fifth of a short read's time."""

OWED_SLICES_MAX = 10
"""With more than this owed, the next job waits for several slices: each job of late has written more than a slice makes up for."""

QUIET_S = 0.02
"""Without a job for so long, the thread is idle: it does slices that are not owed. Under full load it waits for less than this
between two jobs, but then the processor is not idle."""

PAUSE_S = 0.003
"""From then on, it waits for so long between two slices: three times as long as one takes."""


class CompactionPace:
    """What the removal owes, in records."""

    def __init__(self, slice_records: int) -> None:
        self._slice_records = slice_records
        self._owed = 0.0

    def wrote(self, records: int) -> None:
        """History has grown."""
        self._owed += RECORDS_PER_RECORD * records

    def looked_at(self, records: int) -> None:
        """A slice is done, owed or not."""
        self._owed = max(0.0, self._owed - records)

    def before_job(self, remove_slice: Callable[[], bool], *, is_compacted: bool) -> bool:
        """Do what is owed, as far as it cannot wait until after the next job; whether there is more to remove.

        Args:
            remove_slice: removes one and tells `looked_at`; whether there is more.
            is_compacted: there is something to remove. If not, nothing is owed: history that nobody compacts grows rightly.
        """
        self._owed += RECORDS_PER_JOB
        has_more = is_compacted
        while has_more and self._owed >= self._slice_records:
            has_more = remove_slice()
            if self._owed <= OWED_SLICES_MAX * self._slice_records:
                break
        if not has_more:
            self._owed = 0.0
        return has_more
