"""The cluster that is to be broken: its members, and whether it may be.

What may not live here: faults, and anything that writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from raftkv.client.batch_stream import BATCHES_PATH
from raftkv.lab import probe
from raftkv.lab.drill.options import DrillError
from raftkv.pb import rpc_pb2

ANNOUNCED_S = 5.0
"""For a cluster that has only just started: its members announce themselves a moment after they have found a leader."""
SETTLED_S = 3.0
"""For one in which somebody is being elected, or a node was just started."""
CALL_DEADLINE_S = 2.0
VOTERS_MIN = 3
LAG_MAX = 10_000
POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Member:
    """One node. ``endpoint`` is where it serves clients, ``host:port``."""

    name: str
    member_id: int
    endpoint: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """A raftkv cluster, as its own member list has it."""

    cluster_id: int
    members: tuple[Member, ...]

    @property
    def endpoints(self) -> dict[str, str]:
        return {member.name: member.endpoint for member in self.members}

    @property
    def names(self) -> list[str]:
        return [member.name for member in self.members]

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    def name_of(self, member_id: int) -> str:
        """The name of a member; empty for 0 and for an id that is not known."""
        return next((member.name for member in self.members if member.member_id == member_id), "")


def discover(endpoints: Sequence[str]) -> Target:
    """Ask the first endpoint that answers who the members are, and make sure that this is a cluster for drills.

    Raises:
        DrillError: nobody answers, it is not raftkv, it has fewer than three voters, or a member serves no clients.
    """
    answer, asked = _member_list(endpoints)
    _refuse_foreign(asked)
    end = time.monotonic() + ANNOUNCED_S
    while not all(member.clientURLs for member in answer.members) and time.monotonic() < end:
        time.sleep(POLL_S)
        answer, asked = _member_list(endpoints)
    members = []
    for member in answer.members:
        if not member.clientURLs:
            raise DrillError(f"member {member.name or f'{member.ID:x}'} has announced no client URL: is it running?")
        name = member.name or f"{member.ID:x}"
        members.append(Member(name=name, member_id=member.ID, endpoint=address(member.clientURLs[0])))
    voters = sum(not member.isLearner for member in answer.members)
    if voters < VOTERS_MIN:
        raise DrillError(
            f"this cluster has {voters} voting node{'s'[: voters != 1]}: without {VOTERS_MIN} it cannot lose one and go on, "
            "so there is no failover to drill"
        )
    return Target(cluster_id=answer.header.cluster_id, members=tuple(sorted(members, key=lambda m: m.name)))


def require_healthy(target: Target, patience_s: float | None = None) -> str:
    """The leader's name, if every member answers and all follow it.

    Args:
        target: the cluster, which nobody has broken yet.
        patience_s: how long an election under way is waited for; by default `SETTLED_S`.

    Raises:
        DrillError: says which member does not.
    """
    trouble, leader = _settled(target, SETTLED_S if patience_s is None else patience_s)
    if trouble:
        raise DrillError(f"the cluster is not healthy, and a drill would make it worse: {trouble}")
    return leader


def wait_until_healthy(target: Target, *, deadline_s: float, check: Callable[[], None] = lambda: None) -> str:
    """As ``require_healthy``, after everything that was broken is made good.

    Args:
        target: the cluster.
        deadline_s: how much time it has for that.
        check: called meanwhile; what it raises ends the wait.

    Raises:
        DrillError: it is not healthy in time; says which member is missing.
    """
    trouble, leader = _settled(target, deadline_s, check)
    if trouble:
        raise DrillError(
            f"the cluster has not come back within {deadline_s:g} s after everything was made good: {trouble}"
        )
    return leader


def _settled(target: Target, deadline_s: float, check: Callable[[], None] = lambda: None) -> tuple[str, str]:
    """As ``look``, again and again while something is wrong, for so long."""
    end = time.monotonic() + deadline_s
    while True:
        trouble, leader = look(target)
        if not trouble:
            return trouble, leader
        check()
        if time.monotonic() > end:
            return trouble, leader
        time.sleep(POLL_S)


def look(target: Target) -> tuple[str, str]:
    """What is wrong, in words, or nothing; and who leads."""
    answers = probe.statuses(target.endpoints, deadline_s=CALL_DEADLINE_S)
    silent = [f"{name} ({target.endpoints[name]}) {why}" for name, why in answers.items() if isinstance(why, str)]
    if silent:
        return "; ".join(silent), ""
    found = {name: answer for name, answer in answers.items() if isinstance(answer, probe.NodeAnswer)}
    leaderless = [name for name, answer in found.items() if not answer.leader_id]
    if leaderless:
        return f"{', '.join(leaderless)} {'knows' if len(leaderless) == 1 else 'know'} no leader", ""
    views = {(answer.leader_id, answer.term) for answer in found.values()}
    if len(views) > 1:
        return "the nodes do not agree on who leads", ""
    behind = max(answer.applied_index for answer in found.values()) - LAG_MAX
    late = [name for name, answer in found.items() if answer.applied_index < behind]
    if late:
        return f"{', '.join(late)} {'is' if len(late) == 1 else 'are'} more than {LAG_MAX:,} entries behind", ""
    return "", target.name_of(next(iter(views))[0])


def common_hash(target: Target, *, deadline_s: float) -> Mapping[str, probe.KvHash | str]:
    """Every node's hash at one revision that all have reached; other clients may go on writing.

    A node that could not say has a word on why instead. Compaction may overtake the question: it is then asked again.
    """
    end = time.monotonic() + deadline_s
    while True:
        answers = probe.statuses(target.endpoints, deadline_s=CALL_DEADLINE_S)
        known = [answer.revision for answer in answers.values() if isinstance(answer, probe.NodeAnswer)]
        hashes = probe.hashes(target.endpoints, revision=min(known, default=0), deadline_s=deadline_s)
        found = [answer for answer in hashes.values() if isinstance(answer, probe.KvHash)]
        is_comparable = len(found) == len(hashes) and len({answer.compact_revision for answer in found}) == 1
        if is_comparable or time.monotonic() > end:
            return hashes
        time.sleep(POLL_S)


def call(endpoint: str, path: str, request: Any, answer_type: Any, *, deadline_s: float = CALL_DEADLINE_S) -> Any:
    """One unary call. Raises grpc.RpcError."""
    with grpc.insecure_channel(endpoint, options=(("grpc.enable_retries", 0),)) as channel:
        return channel.unary_unary(
            path, request_serializer=type(request).SerializeToString, response_deserializer=answer_type.FromString
        )(request, timeout=deadline_s)


def address(url: str) -> str:
    """``host:port`` of an endpoint or URL."""
    return url.rpartition("://")[2].rstrip("/")


def _member_list(endpoints: Sequence[str]) -> tuple[rpc_pb2.MemberListResponse, str]:
    reasons = []
    for endpoint in map(address, endpoints):
        try:
            request = rpc_pb2.MemberListRequest()
            answer = call(endpoint, "/etcdserverpb.Cluster/MemberList", request, rpc_pb2.MemberListResponse)
        except grpc.RpcError as error:
            reasons.append(f"{endpoint} {reason(error)}")
        else:
            return answer, endpoint
    raise DrillError(f"no node answers: {'; '.join(reasons)}")


def _refuse_foreign(endpoint: str) -> None:
    """A raftkv node knows the batching service, and ends a stream on which nothing comes; an etcd does not.

    Raises:
        DrillError: it is not raftkv.
    """
    try:
        with grpc.insecure_channel(endpoint, options=(("grpc.enable_retries", 0),)) as channel:
            list(channel.stream_stream(BATCHES_PATH)(iter(()), timeout=CALL_DEADLINE_S))
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise DrillError(f"{endpoint} is not a raftkv node (an etcd, perhaps): it is left alone") from None


def reason(error: grpc.RpcError) -> str:
    """Why a call failed, in a few words."""
    code = error.code()
    short = {
        grpc.StatusCode.DEADLINE_EXCEEDED: "does not answer in time",
        grpc.StatusCode.UNAVAILABLE: "cannot be reached",
    }
    return short.get(code) or f"answers {code.name}: {error.details()}"
