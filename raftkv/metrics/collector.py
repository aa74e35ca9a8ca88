"""The collector: reads a node at scrape time and says it in Prometheus's words.

What may not live here: counting. HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Protocol

import grpc
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from raftkv.durations import BOUNDS_S, Durations
from raftkv.metrics.names import CODE_NAMES, HELP
from raftkv.pb.services import Method
from raftkv.raft import RoleName
from raftkv.server import Sources
from raftkv.version import ETCD_API_VERSION

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NOT_ON_THE_CLIENTS_PORT = frozenset({"raftkv.peer.Peer"})


class HealthCounts(Protocol):
    """How often this node's health was asked for, and what was said."""

    @property
    def health_successes(self) -> int: ...

    @property
    def health_failures(self) -> int: ...


class Metrics:
    """Metrics of one node, as text."""

    def __init__(self, sources: Sources, health: HealthCounts) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(NodeCollector(sources, health))
        ProcessCollector(registry=self._registry)

    def render(self) -> tuple[bytes, str]:
        """All metrics as of now, and the content type: the text format of Prometheus."""
        return generate_latest(self._registry), CONTENT_TYPE


class NodeCollector(Collector):
    """Belongs to the event loop, as most of what it reads does."""

    def __init__(self, sources: Sources, health: HealthCounts) -> None:
        self._sources = sources
        self._health = health

    def describe(self) -> list[Metric]:
        """Nothing is collected at registration: the node may not have started."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._raft()
        yield from self._disk()
        yield from self._store()
        yield from self._watches()
        yield from self._calls()

    def _raft(self) -> Iterator[Metric]:
        node, raft = self._sources.node, self._sources.node.raft
        yield _gauge("etcd_server_has_leader", bool(raft.leader))
        yield _gauge("etcd_server_is_leader", raft.role is RoleName.LEADER)
        yield _gauge("etcd_server_is_learner", raft.node_id in raft.membership.learners)
        yield _counter("etcd_server_leader_changes_seen_total", node.leader_changes)
        yield _gauge("etcd_server_proposals_committed_total", raft.commit_index)
        yield _gauge("etcd_server_proposals_applied_total", raft.applied_index)
        yield _gauge("etcd_server_proposals_pending", node.proposals_pending)
        yield _counter("etcd_server_proposals_failed_total", node.proposals_failed)
        yield _plain_counter("etcd_server_health_success", self._health.health_successes)
        yield _plain_counter("etcd_server_health_failures", self._health.health_failures)
        yield _labelled("etcd_server_id", "server_id", f"{raft.node_id:x}")
        yield _labelled("etcd_server_version", "server_version", ETCD_API_VERSION)
        if raft.leader:
            yield _labelled("etcd_cluster_version", "cluster_version", ETCD_API_VERSION.rpartition(".")[0])

    def _disk(self) -> Iterator[Metric]:
        log_writer, machine = self._sources.log_writer, self._sources.machine
        yield _histogram("etcd_disk_wal_fsync_duration_seconds", log_writer.sync_durations)
        yield _gauge("etcd_disk_wal_write_bytes_total", log_writer.stats.bytes_written)
        yield _histogram("etcd_disk_backend_commit_duration_seconds", machine.commit_durations)
        yield _gauge("etcd_server_quota_backend_bytes", self._sources.config.quota_backend_bytes)
        for name in ("etcd_mvcc_db_total_size_in_bytes", "etcd_debugging_mvcc_db_total_size_in_bytes"):
            yield _gauge(name, machine.bytes_on_disk)
        yield _gauge("etcd_mvcc_db_total_size_in_use_in_bytes", machine.bytes_in_use)

    def _store(self) -> Iterator[Metric]:
        machine = self._sources.machine
        counts = machine.operation_counts
        for prefix in ("etcd_mvcc", "etcd_debugging_mvcc"):
            yield _counter(f"{prefix}_put_total", counts.puts)
            yield _counter(f"{prefix}_delete_total", counts.deletes)
            yield _counter(f"{prefix}_range_total", counts.ranges)
            yield _counter(f"{prefix}_txn_total", counts.txns)
        yield _gauge("etcd_debugging_mvcc_current_revision", machine.revision)
        yield _gauge("etcd_debugging_mvcc_compact_revision", machine.compact_revision)

    def _watches(self) -> Iterator[Metric]:
        watches = self._sources.watches
        yield _gauge("etcd_debugging_mvcc_watch_stream_total", watches.stream_count)
        yield _gauge("etcd_debugging_mvcc_watcher_total", watches.watch_count)
        yield _gauge("etcd_debugging_mvcc_slow_watcher_total", watches.behind_count)

    def _calls(self) -> Iterator[Metric]:
        """All methods from the start, with 0: a rate needs a first value. Of the codes, OK and those that there were."""
        labels = ("grpc_type", "grpc_service", "grpc_method")
        started = _family("grpc_server_started_total", labels)
        received = _family("grpc_server_msg_received_total", labels)
        sent = _family("grpc_server_msg_sent_total", labels)
        handled = _family("grpc_server_handled_total", ("grpc_code", *labels))
        calls = self._sources.calls
        for path, counts in calls.counts.items():
            method = calls.method(path)
            if method.service in NOT_ON_THE_CLIENTS_PORT:
                continue
            values = (_type_of(method), method.service, method.name)
            started.add_metric(values, counts.started)
            received.add_metric(values, counts.received)
            sent.add_metric(values, counts.sent)
            for code, count in ({grpc.StatusCode.OK: 0} | counts.handled).items():
                handled.add_metric((CODE_NAMES[code], *values), count)
        yield from (started, received, sent, handled)


def _type_of(method: Method) -> str:
    match method.client_streaming, method.server_streaming:
        case False, False:
            return "unary"
        case False, True:
            return "server_stream"
        case True, False:
            return "client_stream"
        case _:
            return "bidi_stream"


def _gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, HELP[name], value=float(value))


def _counter(name: str, value: float) -> Metric:
    return CounterMetricFamily(name, HELP[name], value=float(value))


def _plain_counter(name: str, value: float) -> Metric:
    """A counter whose name does not end in `_total`: the library would add that, so the type is left open."""
    metric = Metric(name, HELP[name], "unknown")
    metric.add_sample(name, {}, float(value))
    return metric


def _labelled(name: str, label: str, value: str) -> Metric:
    """A text, as Prometheus has it: in a label, with the value 1."""
    metric = GaugeMetricFamily(name, HELP[name], labels=(label,))
    metric.add_metric((value,), 1.0)
    return metric


def _family(name: str, labels: tuple[str, ...]) -> CounterMetricFamily:
    return CounterMetricFamily(name, HELP[name], labels=labels)


def _histogram(name: str, durations: Durations) -> Metric:
    cumulative = list(accumulate(durations.counts))
    bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
    buckets = [(bound, float(count)) for bound, count in zip(bounds, cumulative, strict=True)]
    return HistogramMetricFamily(name, HELP[name], buckets=buckets, sum_value=durations.total_s)
