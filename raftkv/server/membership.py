"""What ties the members' changes together in one process: node, transport and the records of the data directory.

What may not live here: the rules of a change (`raftkv.node.members`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from raftkv.config import ServerConfig, address_of
from raftkv.errors import MemberRemovedError, PeerError, StorageError
from raftkv.node import Node
from raftkv.node.events import Event, Failed
from raftkv.node.members import Members
from raftkv.node.node import ADD_ANEW
from raftkv.pb import peer_pb2, store_pb2
from raftkv.raft.types import NodeId
from raftkv.statemachine import MemberTable
from raftkv.storage import DataMark, PeerRecords
from raftkv.transport import PeerTransport


def roster_of(node: Node) -> peer_pb2.Roster:
    """The members, as this node has applied them."""
    table = store_pb2.MemberTable(members=node.members, removed=sorted(node.removed))
    return peer_pb2.Roster(cluster_id=node.cluster_id, index=node.members_index, table=table)


def members_of(node: Node, transport: Callable[[], PeerTransport]) -> Members:
    """Changes of the members, which the transport carries to the leader."""

    async def forward(leader: NodeId, change: store_pb2.MemberChange, timeout_s: float) -> MemberTable:
        return MemberTable.of(await transport().forward_change(leader, change, timeout_s))

    def connected() -> set[NodeId]:
        return {peer for peer, why_not in transport().links().items() if why_not is None}

    return Members(node, forward, connected)


def dial_overrides(config: ServerConfig) -> dict[str, str]:
    """By name, and by the address that is overridden: a member has no name until it has started."""
    by_address = {
        address_of(url): dial for name, dial in config.peer_dial.items() for url in config.initial_cluster.get(name, ())
    }
    return {**by_address, **config.peer_dial}


def removed_error(data_dir: Path, who_says: str) -> MemberRemovedError:
    return MemberRemovedError(f"{data_dir}: {who_says} that this member was removed from the cluster; {ADD_ANEW}")


class Acquaintances:
    """What the peers have told of their data, checked and written down. If our own disk fails, the node does."""

    def __init__(self, records: PeerRecords, post: Callable[[Event], None]) -> None:
        self._records = records
        self._post = post

    def meet(self, hello: peer_pb2.Hello) -> None:
        """Raises PeerDataError: the peer's data is not what it was."""
        try:
            self._records.meet(hello.sender, DataMark(hello.data_id, hello.incarnation, hello.run_id))
        except StorageError as error:
            self._post(Failed(error))
            raise PeerError("this node's disk has failed") from error

    def forget(self, members: Collection[NodeId]) -> None:
        """Members that were removed."""
        try:
            self._records.forget(members)
        except StorageError as error:
            self._post(Failed(error))
