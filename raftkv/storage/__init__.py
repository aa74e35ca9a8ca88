"""What a node must never forget, and the one place that says it is safe: log, vote, identity.

    DataDir     one process, one member, one format; creation is all or nothing; counts the runs       data_dir
    WalWriter   what queued up during the last sync goes as one write and one sync; its thread         writer
    Wal         append, sync, compact; order of what happens on the disk                               wal
    replay      reading back, and the verdict on what is damaged; changes nothing                      recovery
    format      bytes                                                                                  format
    PeerRecords which data the peers had: one that lost its own must not vote                          peer_records
    FlightFile  the flight record's lines: bounded, and never in anybody's way                         flight_file
    FileSystem  the few file operations all this needs, so that a disk that loses and tears fits in    files

On the disk
-----------

    <data-dir>/wal/0000000000000007.wal      oldest segment; names are sequence numbers without a gap
                   0000000000000008.wal      the active one: the only one that is written to
                   0000000000000005.spare    a dropped segment, to be overwritten by a next one
                   unfinished.tmp            a segment that has not got its name yet

    segment  │ header │ head record │ record │ record │ ... │ old bytes of a recycled file, or zeros │
             0        44                                    ▲ tail                        capacity ▲

    header   │ "raftkvWL" 8 │ format 4 │ 0 4 │ sequence 8 │ salt 8 │ capacity 8 │ crc 4 │
    record   │ salt 8 │ crc 4 │ length 4 │ durable 8 │ payload: items │
             the crc covers the record's offset, length, durable and payload
    item     │ kind 1 │ length 4 │ body │
             ENTRY           a protobuf Entry; replaces everything from its index on
             HARD_STATE      term, vote, commit index
             BASE            a SnapshotMeta: the log up to here is not needed, what is behind it stays
             RESET           a SnapshotMeta: the log starts anew behind it
             HEAD            where the segment before ends; last index and term of the log when this one began

Numbers are little-endian, checksums zlib's CRC-32. One record is one group of saves, all of it or none.

- The salt is drawn anew each time a file is put in service. Old bytes in a recycled file carry another one, so they are
  never taken for records, even if they lie exactly where the next record would.
- The head record holds HEAD, BASE and HARD_STATE: a segment tells everything that was said before it but the entries, so
  older ones can go. A segment gets its name after its head is synced, and is preallocated: a shorter file was cut.
- `durable` is the offset up to which the segment was synced when the record was written. That decides about a record that
  is not intact. If an intact one behind it says `durable` beyond it, it had been synced: CorruptionError, nothing is
  changed. If not, none of them was ever promised (a power cut may keep the later of two unsynced writes): a torn tail,
  cut off and overwritten. A segment that has a successor must be intact up to the end the successor names.
- Opening a log syncs what it read (a killed process leaves bytes in the page cache) and writes a mark, an empty record that
  says `durable`; closing writes one too. What remains open: damage to the records of the very last sync before a crash,
  which nothing on the disk proves to have been synced, looks like a torn tail. Between crash and restart only.
- A bit anywhere else in header, head or records: CorruptionError that names file and offset. An unknown item or entry kind
  stops the node as well: it may be a vote.

Measured (ext4 on a shared virtual disk, 2 busy cores, p50, entries of 300 bytes, append and sync): 0.10 ms for one entry,
0.33 ms for 100 entries in one save, 0.22 ms for one entry of 30 KB; through the writer's thread and back 0.14 ms and
0.43 ms. A bare pwrite and fdatasync is 0.1 ms of that. Reading back takes about 9 µs an entry.

Not done
--------
- Repairing a damaged log from peers: the node stops, the member is removed and added anew.
- The loss of the newest segments as a whole (an old copy put back) cannot be seen from here: the log is simply shorter.
  Peers notice, by `peer_records`, unless the copy was made while the node ran and no start came in between.
- Moving spares between sizes: after a change of `segment_bytes` they are removed.
"""

from __future__ import annotations

from raftkv.storage.data_dir import DataDir, Identity
from raftkv.storage.files import OS_FILES, FileSystem, OsFileSystem
from raftkv.storage.flight_file import FlightFile
from raftkv.storage.peer_records import DataMark, PeerRecords
from raftkv.storage.wal import Recovered, Wal, WalOptions
from raftkv.storage.writer import WalQueue, WalStats, WalWriter

__all__ = [
    "OS_FILES",
    "DataDir",
    "DataMark",
    "FileSystem",
    "FlightFile",
    "Identity",
    "OsFileSystem",
    "PeerRecords",
    "Recovered",
    "Wal",
    "WalOptions",
    "WalQueue",
    "WalStats",
    "WalWriter",
]
