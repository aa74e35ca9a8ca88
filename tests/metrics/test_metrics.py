"""Metrics by etcd's names: there, of the same type, with the same labels, and moving when etcd's move."""

from __future__ import annotations

import fnmatch

import pytest
from prometheus_client.parser import text_string_to_metric_families

import raftkv.metrics
from raftkv.durations import BOUNDS_S, Durations
from raftkv.metrics.names import HELP
from raftkv.pb import rpc_pb2
from tests.gateway.http import Both, Http, b64
from tests.server.grpc_api import Api
from tests.server.process import wait_until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def types_of(text: str) -> dict[str, str]:
    found = (line.split() for line in text.splitlines() if line.startswith("# TYPE "))
    return {name: kind for _, _, name, kind in found}


def samples_of(http: Http) -> Samples:
    families = text_string_to_metric_families(http.get("/metrics").text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(http: Http, name: str, **labels: str) -> float:
    return samples_of(http)[name, frozenset(labels.items())]


def test_every_metric_is_one_of_etcds_with_its_type(both: Both) -> None:
    ours, theirs = (types_of(http.get("/metrics").text) for http in (both.ours, both.theirs))

    assert set(HELP) <= set(ours)
    undeclared = {name for name, kind in ours.items() if kind == "untyped"}
    assert undeclared == {"etcd_server_health_success", "etcd_server_health_failures"}
    assert {name: theirs.get(name) for name in ours if name not in undeclared} == {
        name: kind for name, kind in ours.items() if name not in undeclared
    }


def test_every_sample_has_the_labels_that_etcds_has(both: Both) -> None:
    for http in (both.ours, both.theirs):
        http.put_key(b"labels", b"v")
    ours, theirs = samples_of(both.ours), samples_of(both.theirs)
    known = {(name, frozenset(key for key, _ in labels)) for name, labels in theirs}
    known |= {(name.removesuffix("_total"), labels) for name, labels in known}  # The parser adds it to every counter.
    of_methods = {
        frozenset(labels) for name, labels in theirs if name == "grpc_server_started_total"
    }  # Each method of etcd 3.4.

    for name, labels in ours:
        assert (name, frozenset(key for key, _ in labels)) in known, name
    started = {labels for name, labels in ours if name == "grpc_server_started_total"}
    assert of_methods - started <= {
        labels for labels in of_methods if dict(labels)["grpc_service"] == "grpc.health.v1.Health"
    }


def test_the_content_type_is_prometheuss(both: Both) -> None:
    ours, theirs = (http.get("/metrics") for http in (both.ours, both.theirs))
    assert ours.content_type == theirs.content_type


def test_what_a_new_leader_says_of_itself_is_what_etcd_says(both: Both) -> None:
    for http in (both.ours, both.theirs):
        http.put_key(b"leader", b"v")
    ours, theirs = samples_of(both.ours), samples_of(both.theirs)
    for name in (
        "etcd_server_has_leader",
        "etcd_server_is_leader",
        "etcd_server_is_learner",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_proposals_pending",
        "etcd_server_proposals_failed_total",
        "etcd_server_quota_backend_bytes",
    ):
        assert ours[name, frozenset()] == theirs[name, frozenset()], name
    assert ours["etcd_server_version", frozenset({("server_version", "3.4.23")})] == 1
    assert ours["etcd_cluster_version", frozenset({("cluster_version", "3.4")})] == 1
    member = int(both.ours.post("/v3/cluster/member/list", {}).json["header"]["member_id"])
    assert ours["etcd_server_id", frozenset({("server_id", f"{member:x}")})] == 1


def test_the_quorums_progress_is_counted(ours: Http) -> None:
    before = samples_of(ours)
    for _ in range(5):
        ours.put_key(b"progress", b"v")
    after = samples_of(ours)

    for name in ("etcd_server_proposals_committed_total", "etcd_server_proposals_applied_total"):
        assert after[name, frozenset()] - before[name, frozenset()] == 5
    assert after["etcd_server_proposals_committed_total", frozenset()] == int(
        ours.post("/v3/maintenance/status", {}).json["raftIndex"]
    )


# --- operations -------------------------------------------------------------------------------------------------------

KEY = b64(b"metrics/k")
OPERATIONS: dict[str, tuple[str, object]] = {
    "put": ("/v3/kv/put", {"key": KEY}),
    "range": ("/v3/kv/range", {"key": KEY}),
    "range of many": ("/v3/kv/range", {"key": KEY, "range_end": "AA=="}),
    "serializable range": ("/v3/kv/range", {"key": KEY, "serializable": True}),
    "delete": ("/v3/kv/deleterange", {"key": KEY}),
    "delete of many": ("/v3/kv/deleterange", {"key": KEY, "range_end": "AA=="}),
    "refused put": ("/v3/kv/put", {"key": ""}),
    "txn": ("/v3/kv/txn", {"success": [{"request_put": {"key": KEY}}, {"request_delete_range": {"key": "YQ=="}}]}),
    "txn of one": ("/v3/kv/txn", {"success": [{"request_put": {"key": KEY}}]}),
}


@pytest.mark.parametrize(("path", "request_"), OPERATIONS.values(), ids=OPERATIONS.keys())
def test_operations_are_counted_as_etcd_counts_them(both: Both, path: str, request_: object) -> None:
    names = [f"etcd_mvcc_{kind}_total" for kind in ("put", "delete", "range", "txn")]

    def grown(http: Http) -> list[float]:
        before = samples_of(http)
        http.post(path, request_)
        after = samples_of(http)
        return [after[name, frozenset()] - before[name, frozenset()] for name in names]

    assert grown(both.ours) == grown(both.theirs)


def test_the_keys_that_go_with_a_lease_are_deletes_as_by_etcd(both: Both) -> None:
    def grown(http: Http) -> list[float]:
        http.post("/v3/lease/grant", {"TTL": "60", "ID": "77"})
        for number in range(3):
            http.post("/v3/kv/put", {"key": b64(b"metrics/leased/%d" % number), "lease": "77"})
        before = samples_of(http)
        http.post("/v3/lease/revoke", {"ID": "77"})
        after = samples_of(http)
        names = ("etcd_mvcc_delete_total", "etcd_mvcc_put_total", "etcd_mvcc_txn_total")
        return [after[name, frozenset()] - before[name, frozenset()] for name in names]

    assert grown(both.ours) == grown(both.theirs) == [3, 0, 1]


@pytest.mark.parametrize(
    ("path", "body", "labels"),
    [
        ("/v3/kv/range", {"key": KEY}, ("OK", "etcdserverpb.KV", "Range", "unary")),
        ("/v3/kv/range", {}, ("InvalidArgument", "etcdserverpb.KV", "Range", "unary")),
        ("/v3/kv/range", {"key": KEY, "revision": 10**9}, ("OutOfRange", "etcdserverpb.KV", "Range", "unary")),
        ("/v3/cluster/member/remove", {"ID": "1"}, ("NotFound", "etcdserverpb.Cluster", "MemberRemove", "unary")),
    ],
)
def test_calls_are_counted_by_method_and_code_as_by_etcd(
    both: Both, path: str, body: object, labels: tuple[str, str, str, str]
) -> None:
    code, service, method, kind = labels
    of_method = {"grpc_service": service, "grpc_method": method, "grpc_type": kind}
    zero = {"grpc_server_handled_total": 0.0}

    def grown(http: Http) -> list[float]:
        names = ["grpc_server_started_total", "grpc_server_msg_received_total", "grpc_server_msg_sent_total"]
        keys = [(name, frozenset(of_method.items())) for name in names]
        keys.append(("grpc_server_handled_total", frozenset({**of_method, "grpc_code": code}.items())))
        before = samples_of(http)
        http.post(path, body)
        after = samples_of(http)
        return [after[key] - before.get(key, zero.get(key[0], 0.0)) for key in keys]

    assert grown(both.ours) == grown(both.theirs)


def test_calls_over_grpc_are_counted_too_streams_included(ours: Http, over_grpc: Api) -> None:
    watch = {"grpc_service": "etcdserverpb.Watch", "grpc_method": "Watch", "grpc_type": "bidi_stream"}
    put = {"grpc_service": "etcdserverpb.KV", "grpc_method": "Put", "grpc_type": "unary"}
    before = samples_of(ours)
    call = over_grpc.channel.stream_stream(
        "/etcdserverpb.Watch/Watch",
        request_serializer=rpc_pb2.WatchRequest.SerializeToString,
        response_deserializer=rpc_pb2.WatchResponse.FromString,
    )(iter([rpc_pb2.WatchRequest(create_request={"key": b"metrics/w"})]), timeout=20.0)
    assert next(call).created
    over_grpc.put(b"metrics/w", b"v")
    assert next(call).events
    during = samples_of(ours)
    assert during["etcd_debugging_mvcc_watch_stream_total", frozenset()] == 1
    assert during["etcd_debugging_mvcc_watcher_total", frozenset()] == 1
    call.cancel()

    def ended() -> float:
        return value(ours, "grpc_server_handled_total", grpc_code="Canceled", **watch) if seen() else 0.0

    def seen() -> bool:
        return ("grpc_server_handled_total", frozenset({**watch, "grpc_code": "Canceled"}.items())) in samples_of(ours)

    wait_until(lambda: ended() >= 1)
    after = samples_of(ours)
    assert grown(before, after, "grpc_server_started_total", watch) == 1
    assert grown(before, after, "grpc_server_msg_received_total", watch) == 1
    assert grown(before, after, "grpc_server_msg_sent_total", watch) == 2
    assert grown(before, after, "grpc_server_started_total", put) == 1
    wait_until(lambda: value(ours, "etcd_debugging_mvcc_watch_stream_total") == 0)


def grown(before: Samples, after: Samples, name: str, labels: dict[str, str]) -> float:
    key = (name, frozenset(labels.items()))
    return after[key] - before[key]


# --- disk and process -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["etcd_disk_wal_fsync_duration_seconds", "etcd_disk_backend_commit_duration_seconds"])
def test_histograms_have_etcds_buckets_and_count_what_the_disk_does(both: Both, name: str) -> None:
    def bounds(http: Http) -> list[str]:
        return sorted(dict(labels)["le"] for sample, labels in samples_of(http) if sample == f"{name}_bucket")

    assert [float(bound) for bound in bounds(both.ours)] == [float(bound) for bound in bounds(both.theirs)]
    before = value(both.ours, f"{name}_count")
    both.ours.put_key(b"disk", b"v")
    both.theirs.put_key(b"disk", b"v")
    wait_until(lambda: value(both.ours, f"{name}_count") > before)
    samples = samples_of(both.ours)
    assert samples[f"{name}_bucket", frozenset({("le", "+Inf")})] == samples[f"{name}_count", frozenset()]
    assert samples[f"{name}_sum", frozenset()] > 0


def test_sizes_are_those_of_status(ours: Http) -> None:
    ours.put_key(b"size", b"v" * 10_000)
    status = ours.post("/v3/maintenance/status", {}).json
    samples = samples_of(ours)

    assert samples["etcd_mvcc_db_total_size_in_bytes", frozenset()] >= int(status["dbSize"]) > 0
    assert samples["etcd_mvcc_db_total_size_in_use_in_bytes", frozenset()] > 0
    assert samples["etcd_debugging_mvcc_current_revision", frozenset()] == int(status["header"]["revision"])
    assert samples["etcd_disk_wal_write_bytes_total", frozenset()] > 10_000


def test_the_process_is_measured_as_etcds_is(both: Both) -> None:
    ours, theirs = (types_of(http.get("/metrics").text) for http in (both.ours, both.theirs))
    expected = {name for name in theirs if name.startswith("process_")} - {"process_virtual_memory_max_bytes"}
    assert {name for name in ours if name.startswith("process_")} == expected
    assert 1e7 < value(both.ours, "process_resident_memory_bytes") < 1e9


def test_health_checks_are_counted(ours: Http) -> None:
    before = value(ours, "etcd_server_health_success")
    ours.get("/health")
    assert value(ours, "etcd_server_health_success") == before + 1
    assert value(ours, "etcd_server_health_failures") >= 0


def test_durations_are_counted_in_the_first_bucket_that_holds_them() -> None:
    durations = Durations()
    for seconds in (0.0, 0.001, 0.0011, 8.192, 9.0):
        durations.add(seconds)

    assert (durations.counts[0], durations.counts[1], durations.counts[-2], durations.counts[-1]) == (2, 1, 1, 1)
    assert sum(durations.counts) == 5
    assert durations.total_s == pytest.approx(17.1941)
    assert len(durations.counts) == len(BOUNDS_S) + 1


def test_what_is_not_there_stands_in_the_packages_docstring(both: Both) -> None:
    """Every metric of etcd is either here or named, by itself or by the beginning of its name."""
    text = " ".join((raftkv.metrics.__doc__ or "").split())
    patterns = [word for word in text.replace("`", " ").replace(",", " ").split() if "_" in word]
    ours, theirs = (types_of(http.get("/metrics").text) for http in (both.ours, both.theirs))
    missing = {
        name
        for name in set(theirs) - set(ours)
        if not name.startswith(("go_", "os_", "promhttp_", "etcd_debugging_", "etcd_grpc_proxy_"))
        and not any(fnmatch.fnmatch(name, pattern.rstrip(".")) for pattern in patterns)
    }
    assert missing == set()
