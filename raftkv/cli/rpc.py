"""One command's calls: plain gRPC, endpoints tried in turn, one deadline, errors of `raftkv.errors`.

The library's client (`raftkv.connect`) hides headers and batches calls; an output format needs the answer whole, so the
command line makes the calls itself.

A call goes to the next endpoint only where that is harmless: the server was never reached, it said that the request was
not applied (`raftkv-outcome: not-applied`), or the request is a read. While no server can be reached, the endpoints are
tried again until the dial timeout has passed: a cluster that is being restarted is not an error yet.

What may not live here: output, click.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # The core's own log lines would stand between ours.

import grpc
from google.protobuf.message import Message

from raftkv.cli.options import Settings
from raftkv.errors import (
    UNHEALTHY,
    Code,
    ConfigError,
    DeadlineExceeded,
    Outcome,
    RequestError,
    Unavailable,
    request_error,
)
from raftkv.pb import flight_pb2, rpc_pb2
from raftkv.pb.services import methods

Answer = TypeVar("Answer", bound=Message)

PAUSE_BETWEEN_ROUNDS_S = 0.05
DIAL_ONE_MIN_S = 0.2
_RECONNECT_MS = 100
_RESOLVING = ("errors resolving", "DNS resolution failed", "Name resolution failure")
_NEVER_SENT = ("failed to connect to all addresses", *_RESOLVING)
_CONNECT_WRAPPING = re.compile(
    r"^failed to connect to all addresses(; last error: )?([A-Z_]+: )?(ipv[46]:\S+: |unix:\S+: )?"
    r"(Failed to connect to remote host: )?(connect: )?"
)
_HINT_UNKNOWN = " (the write may have been applied)"


class Unreachable(Unavailable):
    """No connection to the server: nothing was sent."""

    default_outcome = Outcome.NOT_APPLIED


class Connection:
    """Channels to some endpoints, opened when first used. A context manager; not for several threads at once."""

    def __init__(self, settings: Settings, endpoints: Sequence[str] = ()) -> None:
        """Args:
        settings: timeouts, TLS, login, and the endpoints unless `endpoints` are given.
        endpoints: talk to these only.
        """
        self._settings = settings
        self._endpoints = tuple(endpoints) or settings.endpoints
        self._channels: dict[str, grpc.Channel] = {}
        self._token = ""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        return self._call("etcdserverpb.KV", "Range", request, rpc_pb2.RangeResponse)

    def put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        return self._call("etcdserverpb.KV", "Put", request, rpc_pb2.PutResponse, writes=True)

    def delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.DeleteRangeResponse:
        return self._call("etcdserverpb.KV", "DeleteRange", request, rpc_pb2.DeleteRangeResponse, writes=True)

    def txn(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        return self._call("etcdserverpb.KV", "Txn", request, rpc_pb2.TxnResponse, writes=True)

    def compact(self, request: rpc_pb2.CompactionRequest) -> rpc_pb2.CompactionResponse:
        return self._call("etcdserverpb.KV", "Compact", request, rpc_pb2.CompactionResponse, writes=True)

    def status(self) -> rpc_pb2.StatusResponse:
        request = rpc_pb2.StatusRequest()
        return self._call("etcdserverpb.Maintenance", "Status", request, rpc_pb2.StatusResponse)

    def hash_kv(self, revision: int) -> rpc_pb2.HashKVResponse:
        request = rpc_pb2.HashKVRequest(revision=revision)
        return self._call("etcdserverpb.Maintenance", "HashKV", request, rpc_pb2.HashKVResponse)

    def member_list(self) -> rpc_pb2.MemberListResponse:
        request = rpc_pb2.MemberListRequest()
        return self._call("etcdserverpb.Cluster", "MemberList", request, rpc_pb2.MemberListResponse)

    def member_add(self, urls: Sequence[str], *, learner: bool) -> rpc_pb2.MemberAddResponse:
        request = rpc_pb2.MemberAddRequest(peerURLs=urls, isLearner=learner)
        return self._call("etcdserverpb.Cluster", "MemberAdd", request, rpc_pb2.MemberAddResponse, writes=True)

    def member_remove(self, member: int) -> rpc_pb2.MemberRemoveResponse:
        request = rpc_pb2.MemberRemoveRequest(ID=member)
        return self._call("etcdserverpb.Cluster", "MemberRemove", request, rpc_pb2.MemberRemoveResponse, writes=True)

    def member_update(self, member: int, urls: Sequence[str]) -> rpc_pb2.MemberUpdateResponse:
        request = rpc_pb2.MemberUpdateRequest(ID=member, peerURLs=urls)
        return self._call("etcdserverpb.Cluster", "MemberUpdate", request, rpc_pb2.MemberUpdateResponse, writes=True)

    def member_promote(self, member: int) -> rpc_pb2.MemberPromoteResponse:
        request = rpc_pb2.MemberPromoteRequest(ID=member)
        return self._call("etcdserverpb.Cluster", "MemberPromote", request, rpc_pb2.MemberPromoteResponse, writes=True)

    def move_leader(self, target: int) -> rpc_pb2.MoveLeaderResponse:
        request = rpc_pb2.MoveLeaderRequest(targetID=target)
        return self._call("etcdserverpb.Maintenance", "MoveLeader", request, rpc_pb2.MoveLeaderResponse, writes=True)

    def alarm(self, request: rpc_pb2.AlarmRequest) -> rpc_pb2.AlarmResponse:
        return self._call("etcdserverpb.Maintenance", "Alarm", request, rpc_pb2.AlarmResponse)  # Twice is once.

    def defragment(self) -> rpc_pb2.DefragmentResponse:
        request = rpc_pb2.DefragmentRequest()
        return self._call("etcdserverpb.Maintenance", "Defragment", request, rpc_pb2.DefragmentResponse, writes=True)

    def snapshot(self) -> Iterator[rpc_pb2.SnapshotResponse]:
        """The first endpoint's state, in pieces. It may take as long as it takes; only silence ends it.

        Raises:
            RequestError: it could not be begun, or broke.
        """
        self._log_in(time.monotonic() + self._settings.command_timeout)
        stub = self._channel(self._endpoints[0]).unary_stream(
            "/etcdserverpb.Maintenance/Snapshot",
            request_serializer=rpc_pb2.SnapshotRequest.SerializeToString,
            response_deserializer=rpc_pb2.SnapshotResponse.FromString,
        )
        metadata = (("token", self._token),) if self._token else ()
        try:
            yield from stub(rpc_pb2.SnapshotRequest(), metadata=metadata)
        except grpc.RpcError as error:
            raise _summary(self._endpoints, [_as_request_error(error)]) from None

    def lease_grant(self, ttl: int) -> rpc_pb2.LeaseGrantResponse:
        request = rpc_pb2.LeaseGrantRequest(TTL=ttl)
        return self._call("etcdserverpb.Lease", "LeaseGrant", request, rpc_pb2.LeaseGrantResponse, writes=True)

    def lease_revoke(self, lease: int) -> rpc_pb2.LeaseRevokeResponse:
        request = rpc_pb2.LeaseRevokeRequest(ID=lease)
        return self._call("etcdserverpb.Lease", "LeaseRevoke", request, rpc_pb2.LeaseRevokeResponse, writes=True)

    def lease_keep_alive(self, lease: int) -> rpc_pb2.LeaseKeepAliveResponse:
        """One renewal: the method is a stream both ways, and what a plain call sends is a stream of one."""
        request = rpc_pb2.LeaseKeepAliveRequest(ID=lease)
        return self._call("etcdserverpb.Lease", "LeaseKeepAlive", request, rpc_pb2.LeaseKeepAliveResponse)

    def lease_time_to_live(self, lease: int, *, keys: bool) -> rpc_pb2.LeaseTimeToLiveResponse:
        request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=keys)
        return self._call("etcdserverpb.Lease", "LeaseTimeToLive", request, rpc_pb2.LeaseTimeToLiveResponse)

    def leases(self) -> rpc_pb2.LeaseLeasesResponse:
        request = rpc_pb2.LeaseLeasesRequest()
        return self._call("etcdserverpb.Lease", "LeaseLeases", request, rpc_pb2.LeaseLeasesResponse)

    def flight_record(self) -> flight_pb2.RecordResponse:
        return self._call("raftkv.flight.Flight", "Record", flight_pb2.RecordRequest(), flight_pb2.RecordResponse)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self._endpoints

    @property
    def dial_timeout_s(self) -> float:
        return self._settings.dial_timeout

    def watch(self, endpoint: str, requests: Iterator[rpc_pb2.WatchRequest]) -> Iterator[rpc_pb2.WatchResponse]:
        """The responses of one stream to one server, as they come.

        Raises:
            RequestError: it could not be begun, or broke.
        """
        self._log_in(time.monotonic() + self._settings.command_timeout)
        stub = self._channel(endpoint).stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc_pb2.WatchRequest.SerializeToString,
            response_deserializer=rpc_pb2.WatchResponse.FromString,
        )
        metadata = (("hasleader", "true"), *((("token", self._token),) if self._token else ()))
        try:
            yield from stub(requests, metadata=metadata)
        except grpc.RpcError as error:
            raise _as_request_error(error) from None

    def _call(self, service: str, name: str, request: Message, answer: type[Answer], *, writes: bool = False) -> Answer:
        """Send to one endpoint after the other until one answers.

        Raises:
            RequestError: the server's refusal; or `Unavailable`/`DeadlineExceeded` when none answered in time.
        """
        started = time.monotonic()
        deadline = started + self._settings.command_timeout
        self._log_in(deadline)
        while True:
            refusals: list[RequestError] = []
            for at, endpoint in enumerate(self._endpoints):
                left = deadline - time.monotonic()
                if not writes:  # A read that one server leaves unanswered still has time for the others.
                    left /= len(self._endpoints) - at
                try:
                    return self._call_one(endpoint, service, name, request, answer, left)
                except RequestError as error:
                    self._tell(f"{name} at {endpoint}: {error}")
                    if not _harmless_elsewhere(error, writes):
                        raise _with_hint(error, writes) from None
                    refusals.append(error)
            unreachable = all(isinstance(error, Unreachable) for error in refusals)
            wait_for_s = self._settings.dial_timeout if unreachable else self._settings.command_timeout
            if time.monotonic() + PAUSE_BETWEEN_ROUNDS_S >= min(deadline, started + wait_for_s):
                raise _summary(self._endpoints, refusals)
            time.sleep(PAUSE_BETWEEN_ROUNDS_S)

    def _call_one(
        self, endpoint: str, service: str, name: str, request: Message, answer: type[Answer], timeout_s: float
    ) -> Answer:
        if timeout_s <= 0:
            raise DeadlineExceeded("context deadline exceeded", outcome=Outcome.NOT_APPLIED)
        method = methods()[service][name]
        stub = self._channel(endpoint).unary_unary(
            method.path,
            request_serializer=method.request_type.SerializeToString,
            response_deserializer=answer.FromString,
        )
        metadata = (("token", self._token),) if self._token else ()
        try:
            response: Answer = stub(request, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            raise _as_request_error(error) from None
        return response

    def _channel(self, endpoint: str) -> grpc.Channel:
        if endpoint not in self._channels:
            target, secure = _target(endpoint, self._settings)
            dial_s = max(DIAL_ONE_MIN_S, self._settings.dial_timeout / len(self._endpoints))
            options = [
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.enable_http_proxy", 0),
                ("grpc.keepalive_time_ms", int(self._settings.keepalive_time * 1000)),
                ("grpc.keepalive_timeout_ms", int(self._settings.keepalive_timeout * 1000)),
                ("grpc.min_reconnect_backoff_ms", int(dial_s * 1000)),  # How long one attempt to connect may take.
                ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS),
                ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
            ]
            if secure:
                self._channels[endpoint] = grpc.secure_channel(target, _credentials(self._settings), options)
            else:
                self._channels[endpoint] = grpc.insecure_channel(target, options)
        return self._channels[endpoint]

    def _log_in(self, deadline: float) -> None:
        if not self._settings.user or self._token:
            return
        user, _, password = self._settings.user.partition(":")
        request = rpc_pb2.AuthenticateRequest(name=user, password=self._settings.password or password)
        for at, endpoint in enumerate(self._endpoints):
            left = (deadline - time.monotonic()) / (len(self._endpoints) - at)
            try:
                response = self._call_one(
                    endpoint, "etcdserverpb.Auth", "Authenticate", request, rpc_pb2.AuthenticateResponse, left
                )
            except RequestError as error:
                self._tell(f"Authenticate at {endpoint}: {error}")
                if error.code == Code.FAILED_PRECONDITION:  # Authentication is not enabled: nobody has to log in.
                    return
                if not _harmless_elsewhere(error, False):
                    raise
            else:
                self._token = response.token
                return

    def _tell(self, line: str) -> None:
        if self._settings.debug:
            sys.stderr.write(f"debug: {line}\n")


def _harmless_elsewhere(error: RequestError, writes: bool) -> bool:
    """Whether the next endpoint may be asked: nothing can happen twice."""
    if isinstance(error, DeadlineExceeded) and not writes:
        return True
    if error.message == UNHEALTHY:
        return False  # Every server passes this on from the leader.
    return isinstance(error, Unavailable) and (not writes or error.outcome is Outcome.NOT_APPLIED)


def _as_request_error(error: Any) -> RequestError:
    """What a stub raises is a grpc.RpcError and a grpc.Call in one, which types-grpcio cannot say."""
    code = Code(error.code().value[0])
    text = error.details() or code.name
    if code is Code.UNAVAILABLE and text.startswith(_NEVER_SENT):
        return Unreachable(connect_reason(text))
    if code is Code.DEADLINE_EXCEEDED and not text.startswith("etcdserver:"):
        text = "context deadline exceeded"  # etcdctl's words, whatever layer gave up.
    trailers = dict(error.trailing_metadata() or ())
    outcome = Outcome.NOT_APPLIED if trailers.get("raftkv-outcome") == "not-applied" else None
    return request_error(code, text, outcome=outcome)


def connect_reason(text: str) -> str:
    """`connection refused` out of what gRPC says of a connection that failed."""
    if text.startswith(_RESOLVING):
        return text.rpartition(": ")[2].rstrip("]").lower()
    reason = _CONNECT_WRAPPING.sub("", text).removesuffix(": OK")
    reason = re.sub(r" \(\d+\)$", "", reason)  # Some versions add the errno.
    return reason[:1].lower() + reason[1:]


def _summary(endpoints: Sequence[str], refusals: Sequence[RequestError]) -> RequestError:
    """One error for a round in which every endpoint failed."""
    pairs = list(zip(endpoints, refusals, strict=True))
    for _, error in pairs:
        if not isinstance(error, Unreachable):
            return error
    if len(pairs) == 1:
        return Unreachable(f"cannot connect to {endpoints[0]}: {refusals[0].message}")
    return Unreachable("cannot connect to any endpoint: " + ", ".join(f"{at}: {error.message}" for at, error in pairs))


def _with_hint(error: RequestError, writes: bool) -> RequestError:
    if writes and error.outcome is Outcome.UNKNOWN:
        return request_error(error.code, error.message + _HINT_UNKNOWN, outcome=error.outcome)
    return error


def _target(endpoint: str, settings: Settings) -> tuple[str, bool]:
    """GRPC's name for an endpoint, and whether it speaks TLS."""
    scheme, _, address = endpoint.rpartition("://")
    wants_tls = bool(settings.cacert or settings.cert) or not settings.insecure_transport
    if scheme in {"unix", "unixs"}:
        return f"unix:{address}", scheme == "unixs" or wants_tls
    return address, scheme == "https" or (wants_tls and scheme != "http")


def _credentials(settings: Settings) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_pem(settings.cacert, "--cacert"),
        private_key=_pem(settings.key, "--key"),
        certificate_chain=_pem(settings.cert, "--cert"),
    )


def _pem(path: str, flag: str) -> bytes | None:
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"invalid value for {flag}: {path}: {error.strerror}") from None
