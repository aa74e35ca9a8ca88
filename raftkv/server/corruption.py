"""CORRUPT: from time to time the leader compares the members' data, and raises the alarm for whose differ.

    leader ── a revision that all have, or soon will ──► every member: HashKV at it
           ◄── hash, and up to where it is compacted ──  (or: a value of mine is damaged)
                     │
                     ▼
             who differs from the majority gets the alarm; writes are refused until it is disarmed, as by etcd

Which member is wrong, the majority of members decides: a hash that more than half of them have is right. Where none has that, all
that were compared are suspects. Reads go on: which node's are wrong is what the alarm says. The way out is to replace the member
(its alarm goes with it), or to disarm the alarm knowing better.

Hashes are comparable at one revision and one compact revision. Whoever is compacted further meanwhile, does not answer, or has not
applied the revision in time, is compared the next time.

What may not live here: computing a hash (`raftkv.mvcc.hashing`), and the way to the peers (`raftkv.transport.hashes`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from raftkv.errors import DataLoss, FutureRevision, RequestError
from raftkv.node import Node
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft import RoleName
from raftkv.raft.types import NodeId
from raftkv.server.maintenance import change_alarm

log = logging.getLogger("raftkv.server")

ANSWER_S = 120.0
"""For one member's hash; 2 s a million keys."""
ASK_AGAIN_S = 0.2
CATCH_UP_S = 10.0
"""For a member to apply the revision that is compared."""
CHANGE_S = 5.0


@dataclass(frozen=True, slots=True)
class Hash:
    """A member's answer."""

    number: int
    at: tuple[int, int]
    """Revision and compact revision: hashes at others are not comparable."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A member found by itself that what it has stored is not what was written."""


Finding = Hash | Damaged
Ask = Callable[[NodeId, int, float], Awaitable[rpc_pb2.HashKVResponse]]
"""A member's HashKV at a revision, within so many seconds."""


def suspects(findings: Mapping[NodeId, Finding], members: int) -> set[NodeId]:
    """Whose data are not what they should be, of a cluster of so many members."""
    damaged = {node for node, finding in findings.items() if isinstance(finding, Damaged)}
    hashes = {node: finding for node, finding in findings.items() if isinstance(finding, Hash)}
    if not hashes:
        return damaged
    # Those that can be compared with each other: the most, and of equally many the furthest.
    sizes = Counter(found.at for found in hashes.values())
    place = max(sizes, key=lambda at: (sizes[at], at))
    compared = {node: found.number for node, found in hashes.items() if found.at == place}
    counts = Counter(compared.values())
    if len(counts) == 1:
        return damaged
    number, count = counts.most_common(1)[0]
    has_majority = 2 * count > members
    return damaged | {node for node, found in compared.items() if not has_majority or found != number}


class CorruptionCheck:
    """The leader's duty. Every node runs it; those that do not lead do nothing."""

    def __init__(self, node: Node, *, interval_s: float, ask: Ask) -> None:
        self._node = node
        self._interval_s = interval_s
        self._ask = ask

    async def run(self) -> None:
        """Until the node stops."""
        while self._interval_s and not self._node.stopped.done():
            await asyncio.sleep(self._interval_s)
            if self._node.raft.role is RoleName.LEADER:
                try:
                    await self.check()
                except RequestError as error:  # No leader any more, say. The next one checks in its turn.
                    log.info("the members' data could not be compared: %s", error)

    async def check(self) -> set[NodeId]:
        """Compare the members' data now; whose differ has the alarm when this returns.

        Raises:
            RequestError: this node cannot say what the revision is, or cannot raise the alarm.
        """
        revision, compact_revision = await self._node.read(
            lambda machine: (machine.revision, machine.compact_revision), timeout_s=CATCH_UP_S
        )
        if revision <= compact_revision:
            revision = (
                0  # Nothing was written since the compaction; by its number that revision cannot be had any more.
            )
        members = [member.ID for member in self._node.members]
        answers = await asyncio.gather(*(self._find(member, revision) for member in members))
        findings = {member: found for member, found in zip(members, answers, strict=True) if found is not None}
        found = suspects(findings, len(members))
        for member in sorted(found):
            log.critical("the data of %s are not those of the others", self._node.name_of(member))
            request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=member, alarm=rpc_pb2.CORRUPT)
            await change_alarm(self._node, store_pb2.AlarmChange(request=request, by_itself=True), timeout_s=CHANGE_S)
        return found

    async def _find(self, member: NodeId, revision: int) -> Finding | None:
        """None: it cannot be compared this time."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + CATCH_UP_S
        while True:
            try:
                response = await self._ask(member, revision, ANSWER_S)
            except DataLoss:
                return Damaged()
            except FutureRevision:
                if loop.time() > give_up_at:
                    return None
                await asyncio.sleep(ASK_AGAIN_S)
            except RequestError as error:
                log.debug("%s is not compared: %s", self._node.name_of(member), error)
                return None
            else:
                is_it = response.header.member_id == member and response.header.cluster_id == self._node.cluster_id
                return Hash(response.hash, (response.hash_revision, response.compact_revision)) if is_it else None
