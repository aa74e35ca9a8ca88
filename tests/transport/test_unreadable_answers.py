"""What answers at a peer's address may be anything: bytes that cannot be read are that peer's failure and nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from raftkv.errors import Outcome, PeerError, RequestError, Unavailable
from raftkv.pb import peer_pb2, store_pb2
from raftkv.raft.messages import InstallSnapshot
from raftkv.raft.types import Membership, SnapshotMeta
from raftkv.transport.hashes import ask_for_hash
from raftkv.transport.roster import ask_for_roster, forward_change
from raftkv.transport.snapshot_stream import send_snapshot
from tests.support import free_port

UNREADABLE = b"\xff\xff\xff"


class _AnswersAll(grpc.GenericRpcHandler):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        async def answer_all(requests: AsyncIterator[bytes], _context: Any) -> bytes:
            async for _ in requests:
                pass
            return self._answer

        return grpc.stream_unary_rpc_method_handler(answer_all)


@pytest.fixture
async def answering(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The address of something that answers every call with the same bytes."""
    port = free_port()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_AnswersAll(request.param),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.mark.parametrize("answering", [UNREADABLE], indirect=True)
async def test_an_unreadable_roster_is_a_peer_that_does_not_answer(answering: str) -> None:
    with pytest.raises(PeerError, match="what it answers is no roster"):
        await ask_for_roster(answering, peer_pb2.Roster())


@pytest.mark.parametrize("answering", [UNREADABLE, b""], indirect=True, ids=["unreadable", "empty"])
async def test_a_change_that_is_answered_with_neither_success_nor_failure_is_unknown(answering: str) -> None:
    with pytest.raises(Unavailable) as caught:
        await forward_change(answering, 7, store_pb2.MemberChange(remove=5), timeout_s=5)
    assert caught.value.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("answering", [UNREADABLE], indirect=True)
async def test_an_unreadable_hash_is_no_answer(answering: str) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        await ask_for_hash(answering, 0, timeout_s=5)


@pytest.mark.parametrize("answering", [UNREADABLE], indirect=True)
async def test_a_snapshot_whose_receiver_answers_unreadably_was_not_sent(answering: str, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(b"state")
    meta = SnapshotMeta(index=1, term=1, membership=Membership(voters=frozenset({1, 2})))
    message = InstallSnapshot(sender=1, receiver=2, term=1, snapshot=meta)

    with pytest.raises(PeerError, match="cannot be read"):
        await send_snapshot(answering, peer_pb2.Hello(), message, path)
