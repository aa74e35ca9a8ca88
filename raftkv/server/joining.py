"""Who a node is when it starts: one of the first members, one that has data, or one that joins and asks its peers.

A node that joins was added to the member table before (`raftkv member add`). It finds itself there by its peer URLs, and takes over
its id, the cluster's id and the table; the log, or a snapshot, brings the rest.

What may not live here: opening anything on disk for writing.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from raftkv.config import ServerConfig, address_of
from raftkv.errors import ConfigError, PeerError
from raftkv.mvcc.environment import DATA_FILE
from raftkv.pb import peer_pb2, rpc_pb2
from raftkv.raft.types import Membership
from raftkv.statemachine import Bootstrap
from raftkv.storage import DataDir, Identity
from raftkv.transport.roster import ask_for_roster

log = logging.getLogger("raftkv.server")

JOIN_WAIT_S = 10.0
"""How long to look for a member that knows us."""
ASK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Origin:
    """Who this node is, and what its state machine starts from if it has none; `bootstrap` None: it must have one."""

    identity: Identity
    bootstrap: Bootstrap | None


async def find_origin(config: ServerConfig) -> Origin:
    """Decide who this node is.

    Raises:
        ConfigError: it is to join, and the cluster does not expect it.
        PeerError: it is to join, and nobody answers.
        DataDirError: its data cannot be read.
    """
    if config.initial_cluster_state == "new":
        identity = Identity(config.cluster_id, config.member_id, config.name)
        members, membership = config.initial_members(), config.initial_membership()
        return Origin(identity, Bootstrap(cluster_id=config.cluster_id, members=members, membership=membership))
    known = DataDir.identity_in(config.data_dir)
    if known is not None and (config.data_dir / "state" / DATA_FILE).exists():
        return Origin(known, None)
    roster, member = await _ask_until_known(config)
    identity = Identity(roster.cluster_id, member.ID, config.name)
    bootstrap = Bootstrap(
        cluster_id=roster.cluster_id,
        members=list(roster.table.members),
        membership=Membership(),  # Nobody votes, as far as it knows: the log tells.
        removed=frozenset(roster.table.removed),
    )
    return Origin(identity, bootstrap)


async def _ask_until_known(config: ServerConfig) -> tuple[peer_pb2.Roster, rpc_pb2.Member]:
    """A node that answers may lag behind the change that added us: ask again for a while."""
    addresses = [
        config.peer_dial.get(name, address_of(url))
        for name, urls in config.initial_cluster.items()
        if name != config.name
        for url in urls
    ]
    if not addresses:
        raise ConfigError("--initial-cluster: names no other member; a node that joins needs one to ask")
    end = asyncio.get_running_loop().time() + JOIN_WAIT_S
    while True:
        answers = await asyncio.gather(*map(_ask, addresses))
        rosters = [answer for answer in answers if isinstance(answer, peer_pb2.Roster)]
        if rosters:
            roster = max(rosters, key=lambda roster: roster.index)
            member = next((one for one in roster.table.members if set(one.peerURLs) == set(config.peer_urls)), None)
            if member is not None:
                return roster, _not_yet_started(member)
        if asyncio.get_running_loop().time() > end:
            if rosters:
                raise ConfigError(_not_expected(config))
            missing = "; ".join(str(answer) for answer in answers)
            raise PeerError(f"cannot join: no member of the cluster answers: {missing}")
        await asyncio.sleep(ASK_AGAIN_S)


async def _ask(address: str) -> peer_pb2.Roster | PeerError:
    try:
        return await ask_for_roster(address, peer_pb2.Roster())
    except PeerError as error:
        log.debug("cannot ask who the members are: %s", error)
        return error


def _not_yet_started(member: rpc_pb2.Member) -> rpc_pb2.Member:
    if member.name:
        raise ConfigError(
            f"member {member.ID:x} ({member.name}) has run before, and its data is not in --data-dir: "
            "remove the member and add it anew"
        )
    return member


def _not_expected(config: ServerConfig) -> str:
    urls = ",".join(config.peer_urls)
    return (
        f"--initial-cluster-state: existing: the cluster has no member with the peer URLs {urls}; "
        f"add it first: raftkv member add {config.name} --peer-urls={urls}"
    )
