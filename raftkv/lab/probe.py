"""What a node says about itself, asked of exactly that node, once, with a short deadline.

The client (``raftkv.client``) looks for *some* node that answers and asks again; a laboratory wants to know which one does not.

What may not live here: retries, failover, anything that writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from raftkv.pb import rpc_pb2

_OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))


@dataclass(frozen=True, kw_only=True)
class NodeAnswer:
    """The answer to Maintenance.Status, in our words."""

    member_id: int
    leader_id: int
    term: int
    applied_index: int
    revision: int
    version: str
    bytes_on_disk: int

    @property
    def leads(self) -> bool:
        return self.leader_id != 0 and self.leader_id == self.member_id


@dataclass(frozen=True, kw_only=True)
class KvHash:
    """The hash of all keys and their history up to a revision. Nodes that agree on the revisions must agree on the hash."""

    value: int
    revision: int
    compact_revision: int


def statuses(endpoints: Mapping[str, str], *, deadline_s: float = 1.0) -> dict[str, NodeAnswer | str]:
    """Ask every node at once; a node that does not answer has a word on why instead."""
    answers = _ask_all(endpoints, "Maintenance/Status", rpc_pb2.StatusRequest(), rpc_pb2.StatusResponse, deadline_s)
    return {
        name: answer
        if isinstance(answer, str)
        else NodeAnswer(
            member_id=answer.header.member_id,
            leader_id=answer.leader,
            term=answer.raftTerm,
            applied_index=answer.raftAppliedIndex,
            revision=answer.header.revision,
            version=answer.version,
            bytes_on_disk=answer.dbSize,
        )
        for name, answer in answers.items()
    }


def hashes(endpoints: Mapping[str, str], *, revision: int = 0, deadline_s: float = 10.0) -> dict[str, KvHash | str]:
    """Ask every node at once for its hash up to ``revision``, 0 for its latest."""
    request = rpc_pb2.HashKVRequest(revision=revision)
    answers = _ask_all(endpoints, "Maintenance/HashKV", request, rpc_pb2.HashKVResponse, deadline_s)
    return {
        name: answer
        if isinstance(answer, str)
        else KvHash(
            value=answer.hash,
            revision=answer.hash_revision or answer.header.revision,  # etcd 3.4 does not say it.
            compact_revision=answer.compact_revision,
        )
        for name, answer in answers.items()
    }


def unannounced(endpoints: Mapping[str, str], *, deadline_s: float = 1.0) -> list[str]:
    """Nodes whose member list still lacks where a member serves clients, or that do not answer.

    A member announces that through the log, a moment after it has found a leader.
    """
    answers = _ask_all(
        endpoints, "Cluster/MemberList", rpc_pb2.MemberListRequest(), rpc_pb2.MemberListResponse, deadline_s
    )
    return [
        name
        for name, answer in answers.items()
        if isinstance(answer, str) or not all(member.clientURLs for member in answer.members)
    ]


def leader_of(answers: Mapping[str, NodeAnswer | str]) -> str | None:
    """The node that leads in the highest term which any node knows of; None if that one has no leader here."""
    leaders = [
        (answer.term, name) for name, answer in answers.items() if isinstance(answer, NodeAnswer) and answer.leads
    ]
    return max(leaders)[1] if leaders else None


def _ask_all(
    endpoints: Mapping[str, str], method: str, request: Any, answer_type: Any, deadline_s: float
) -> dict[str, Any]:
    channels = {name: grpc.insecure_channel(endpoint, options=_OPTIONS) for name, endpoint in endpoints.items()}
    try:
        calls = {
            name: channel.unary_unary(
                f"/etcdserverpb.{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer_type.FromString,
            ).future(request, timeout=deadline_s)
            for name, channel in channels.items()
        }
        return {name: _result(call) for name, call in calls.items()}
    finally:
        for channel in channels.values():
            channel.close()


def _result(call: Any) -> Any:
    try:
        return call.result()
    except grpc.RpcError as error:
        code = error.code()
        return {
            grpc.StatusCode.DEADLINE_EXCEEDED: "no answer in time",
            grpc.StatusCode.UNAVAILABLE: "cannot be reached",
        }.get(code) or f"{code.name.lower()}: {error.details()}"
