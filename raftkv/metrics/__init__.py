"""What Prometheus scrapes: a node's counts, under etcd's names where they mean what etcd's mean.

Nothing is measured for it but what a counter increment can: `collector.py` reads, at each scrape, what the node counts
anyway. The registry is a node's own; the process's global one is not used.

etcd's Grafana dashboard and alert rules find: whether there is a leader and how often that changed, proposals, the log's and the
database's sync times, database size and quota, puts, deletes, ranges and txns, watchers, RPCs by method and code, and process_*.

Where the meaning differs a little: `etcd_disk_wal_fsync_duration_seconds` covers write and sync of a group of entries;
`etcd_disk_backend_commit_duration_seconds` an LMDB commit, of which there is about one a second under load; sizes are LMDB's.

`etcd_server_health_success` and `_failures` are counters without a declared type, because of their names.

Not there, for lack of a thing to measure or of a cheap way to: `etcd_network_*` (bytes and round trips of peers and clients),
`etcd_server_client_requests_total`, `etcd_server_go_version`, `grpc_server_handling_seconds`, `etcd_server_slow_*`, `etcd_server_read_indexes_failed_total`,
`etcd_server_heartbeat_send_failures_total`, `etcd_server_learner_promote_*`, `etcd_server_snapshot_apply_in_progress_total`,
`etcd_snap_*`, `etcd_mvcc_hash_*`, `etcd_mvcc_db_open_read_transactions`, `etcd_disk_*defrag*`, `etcd_disk_backend_snapshot_*`,
leases, and of `etcd_debugging_*` all but revisions, put counts and watchers; etcd's v2 store and gRPC proxy; `go_*`, `os_*`.
"""

from __future__ import annotations

from raftkv.metrics.collector import Metrics

__all__ = ["Metrics"]
