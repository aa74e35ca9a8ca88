"""Names of metrics and what each is, for the `# HELP` lines; and gRPC's codes as etcd spells them.

Source: the names are etcd 3.4's.
"""

from __future__ import annotations

import grpc

HELP = {
    "etcd_server_has_leader": "1 if this member knows a leader, 0 if not.",
    "etcd_server_is_leader": "1 if this member leads, 0 if not.",
    "etcd_server_is_learner": "1 if this member is a learner, 0 if not.",
    "etcd_server_leader_changes_seen_total": "How often this member has seen a leader come.",
    "etcd_server_proposals_committed_total": "Index of the last log entry known to be committed.",
    "etcd_server_proposals_applied_total": "Index of the last log entry applied.",
    "etcd_server_proposals_pending": "Writes of this member's clients that wait for their answer.",
    "etcd_server_proposals_failed_total": "Writes of this member's clients that failed, or whose outcome is unknown.",
    "etcd_server_health_success": "Health checks that found this member well.",
    "etcd_server_health_failures": "Health checks that did not.",
    "etcd_server_id": "This member's id in hexadecimal, as a label; the value is 1.",
    "etcd_server_version": "Which etcd this server answers as, as a label; the value is 1.",
    "etcd_cluster_version": "Which etcd API the cluster speaks, as a label; the value is 1.",
    "etcd_disk_wal_fsync_duration_seconds": "How long the log took to write and sync a group of entries.",
    "etcd_disk_wal_write_bytes_total": "Bytes written to the log since the start.",
    "etcd_disk_backend_commit_duration_seconds": "How long the database took to commit, synced.",
    "etcd_server_quota_backend_bytes": "Size of the database beyond which puts are refused.",
    "etcd_mvcc_db_total_size_in_bytes": "Size of the database file.",
    "etcd_debugging_mvcc_db_total_size_in_bytes": "Size of the database file.",
    "etcd_mvcc_db_total_size_in_use_in_bytes": "Size of the database file without its free pages.",
    "etcd_mvcc_put_total": "Puts applied by this member since its start.",
    "etcd_mvcc_delete_total": "Deletes applied by this member since its start; one of a range is one.",
    "etcd_mvcc_range_total": "Ranges read by this member since its start.",
    "etcd_mvcc_txn_total": "Txns of more than one operation done by this member since its start.",
    "etcd_debugging_mvcc_put_total": "Puts applied by this member since its start.",
    "etcd_debugging_mvcc_delete_total": "Deletes applied by this member since its start; one of a range is one.",
    "etcd_debugging_mvcc_range_total": "Ranges read by this member since its start.",
    "etcd_debugging_mvcc_txn_total": "Txns of more than one operation done by this member since its start.",
    "etcd_debugging_mvcc_current_revision": "The store's revision.",
    "etcd_debugging_mvcc_compact_revision": "The revision below which history is gone; -1: never compacted.",
    "etcd_debugging_mvcc_watch_stream_total": "Watch streams there are now.",
    "etcd_debugging_mvcc_watcher_total": "Watches there are now.",
    "etcd_debugging_mvcc_slow_watcher_total": "Watches there are now that have yet to catch up.",
    "grpc_server_started_total": "RPCs begun, by method.",
    "grpc_server_handled_total": "RPCs ended, by method and code.",
    "grpc_server_msg_received_total": "Request messages received, by method.",
    "grpc_server_msg_sent_total": "Response messages sent, by method.",
}

CODE_NAMES = {
    grpc.StatusCode.OK: "OK",
    grpc.StatusCode.CANCELLED: "Canceled",
    grpc.StatusCode.UNKNOWN: "Unknown",
    grpc.StatusCode.INVALID_ARGUMENT: "InvalidArgument",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DeadlineExceeded",
    grpc.StatusCode.NOT_FOUND: "NotFound",
    grpc.StatusCode.ALREADY_EXISTS: "AlreadyExists",
    grpc.StatusCode.PERMISSION_DENIED: "PermissionDenied",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "ResourceExhausted",
    grpc.StatusCode.FAILED_PRECONDITION: "FailedPrecondition",
    grpc.StatusCode.ABORTED: "Aborted",
    grpc.StatusCode.OUT_OF_RANGE: "OutOfRange",
    grpc.StatusCode.UNIMPLEMENTED: "Unimplemented",
    grpc.StatusCode.INTERNAL: "Internal",
    grpc.StatusCode.UNAVAILABLE: "Unavailable",
    grpc.StatusCode.DATA_LOSS: "DataLoss",
    grpc.StatusCode.UNAUTHENTICATED: "Unauthenticated",
}

assert set(CODE_NAMES) == set(grpc.StatusCode), "a code without a name"
