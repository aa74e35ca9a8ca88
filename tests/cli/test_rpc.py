"""Which endpoint is asked, and when a call may go to another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from raftkv.cli.options import Settings
from raftkv.cli.rpc import Connection, connect_reason
from raftkv.errors import Compacted, ConfigError, DeadlineExceeded, NotFound, Outcome, ResourceExhausted, Unavailable
from raftkv.pb import rpc_pb2
from tests.cli.conftest import Command, etcdctl, running_etcd

Behaviour = Callable[[grpc.ServicerContext], None]

PUT = rpc_pb2.PutRequest(key=b"a", value=b"b")
GET = rpc_pb2.RangeRequest(key=b"a")


class FakeServer(grpc.GenericRpcHandler):
    """Answers every call with an empty message, after `behave`, and counts the calls."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.calls: list[str] = []
        self.endpoint = ""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda _, context: self._answer(details.method, context))

    def _answer(self, method: str, context: grpc.ServicerContext) -> bytes:
        self.calls.append(method)
        self.behave(context)
        return b""


@contextmanager
def serving(behave: Behaviour) -> Iterator[FakeServer]:
    fake = FakeServer(behave)
    server = grpc.server(ThreadPoolExecutor(1), handlers=[fake], options=[("grpc.so_reuseport", 0)])
    fake.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield fake
    finally:
        server.stop(None).wait()


def fine(_: grpc.ServicerContext) -> None:
    pass


def refusing(code: grpc.StatusCode, text: str, outcome: str = "") -> Behaviour:
    def behave(context: grpc.ServicerContext) -> None:
        if outcome:
            context.set_trailing_metadata((("raftkv-outcome", outcome),))
        context.abort(code, text)

    return behave


def connection(*endpoints: str, command_timeout: float = 5.0) -> Connection:
    return Connection(Settings(endpoints=endpoints, command_timeout=command_timeout, dial_timeout=1.0))


def test_a_write_that_was_surely_not_applied_goes_to_the_next_endpoint() -> None:
    stopping = refusing(grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader", "not-applied")
    with serving(stopping) as first, serving(fine) as second, connection(first.endpoint, second.endpoint) as servers:
        servers.put(PUT)
        assert (len(first.calls), second.calls) == (1, ["/etcdserverpb.KV/Put"])


def test_a_write_with_an_unknown_outcome_is_not_sent_again_and_says_so() -> None:
    vague = refusing(grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
    with serving(vague) as first, serving(fine) as second, connection(first.endpoint, second.endpoint) as servers:
        with pytest.raises(Unavailable, match="the write may have been applied") as refusal:
            servers.put(PUT)
        assert refusal.value.outcome is Outcome.UNKNOWN
        assert second.calls == []


def test_a_read_goes_to_the_next_endpoint_whatever_was_unavailable() -> None:
    vague = refusing(grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
    with serving(vague) as first, serving(fine) as second, connection(first.endpoint, second.endpoint) as servers:
        assert servers.range(GET) == rpc_pb2.RangeResponse()


def test_a_read_leaves_time_for_the_endpoints_after_a_silent_one(silent_endpoint: str) -> None:
    with serving(fine) as second, connection(silent_endpoint, second.endpoint, command_timeout=2.0) as servers:
        assert servers.range(GET) == rpc_pb2.RangeResponse()


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (grpc.StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", Compacted),
        (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found", NotFound),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", ResourceExhausted),
    ],
)
def test_an_answer_that_refuses_is_final(code: grpc.StatusCode, text: str, expected: type[Exception]) -> None:
    with serving(refusing(code, text)) as first, serving(fine) as second:
        with connection(first.endpoint, second.endpoint) as servers, pytest.raises(expected, match=text):
            servers.range(GET)
        assert second.calls == []


def test_a_write_that_gets_no_answer_in_time_is_of_unknown_outcome() -> None:
    def hang(context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    with serving(hang) as server, connection(server.endpoint) as servers:
        with pytest.raises(DeadlineExceeded, match="context deadline exceeded") as refusal:
            servers.put(PUT)
        assert refusal.value.outcome is Outcome.UNKNOWN


def test_every_unreachable_endpoint_is_named_with_its_reason(dead_endpoint: str) -> None:
    with (
        connection(dead_endpoint, "127.0.0.1:1") as servers,
        pytest.raises(Unavailable, match=rf"{dead_endpoint}: connection refused, 127\.0\.0\.1:1: "),
    ):
        servers.put(PUT)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            (
                "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote "
                "host: Connection refused"
            ),
            "connection refused",
        ),
        (
            (
                "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote "
                "host: connect: Connection refused (111)"
            ),
            "connection refused",
        ),
        (
            (
                "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: Tls handshake failed "
                "(TSI_PROTOCOL_FAILURE): CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate: OK"
            ),
            (
                "tls handshake failed (TSI_PROTOCOL_FAILURE): CERTIFICATE_VERIFY_FAILED: unable to get local issuer "
                "certificate"
            ),
        ),
        (
            (
                "errors resolving nohost:1: [field:hostname lookup error:address lookup failed for nohost:1: Domain name "
                "not found]"
            ),
            "domain name not found",
        ),
    ],
)
def test_the_reason_is_taken_out_of_grpcs_wrapping(text: str, reason: str) -> None:
    assert connect_reason(text) == reason


def test_a_server_that_comes_back_within_the_dial_timeout_is_found(dead_endpoint: str) -> None:
    fake = FakeServer(fine)
    server = grpc.server(ThreadPoolExecutor(1), handlers=[fake], options=[("grpc.so_reuseport", 0)])
    settings = Settings(endpoints=(dead_endpoint,), command_timeout=30.0, dial_timeout=30.0)
    with Connection(settings) as servers, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(servers.put, PUT)
        server.add_insecure_port(dead_endpoint)
        server.start()
        assert answer.result(timeout=30) == rpc_pb2.PutResponse()
    server.stop(None).wait()


def test_a_certificate_that_cannot_be_read_is_a_configuration_error() -> None:
    settings = Settings(endpoints=("https://127.0.0.1:1",), cacert="/does/not/exist")
    with Connection(settings) as servers, pytest.raises(ConfigError, match="--cacert"):
        servers.range(GET)


def test_a_user_logs_in_and_a_wrong_password_is_refused(tmp_path: Path, raftkv: Command) -> None:
    with running_etcd(tmp_path / "auth") as etcd:
        at = ("--endpoints", etcd.endpoint)
        assert raftkv(*at, "--user", "root:secret", "put", "a", "b").code == 0  # Nobody has to log in yet.
        for words in (["user", "add", "root:secret"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
            assert etcdctl(*at, *words).code == 0, words
        assert raftkv(*at, "get", "a").err == b"Error: etcdserver: user name is empty\n"
        assert raftkv(*at, "--user", "root:secret", "get", "a").out == b"a\nb\n"
        assert raftkv(*at, "--user", "root", "--password", "secret", "get", "a").out == b"a\nb\n"
        wrong = raftkv(*at, "--user", "root:guess", "get", "a")
        assert (wrong.code, wrong.err) == (
            1,
            b"Error: etcdserver: authentication failed, invalid user ID or password\n",
        )
        assert raftkv(*at, "endpoint", "health").code == etcdctl(*at, "endpoint", "health").code
