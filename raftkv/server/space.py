"""NOSPACE: raised for this node when its database is beyond the quota, ended when it is well below again.

A node refuses its own clients at once (`limits`); the alarm has all nodes refuse, because what is put anywhere is stored here too.
etcd's alarm stays until somebody disarms it. Ours ends by itself once deletes and a compaction have made room; a person may still
disarm it, and it comes back if the database is still beyond the quota.

What may not live here: what is refused meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from raftkv.errors import RequestError
from raftkv.node import Node
from raftkv.pb import rpc_pb2, store_pb2
from raftkv.raft import RoleName
from raftkv.server.maintenance import change_alarm
from raftkv.statemachine import Alarms

log = logging.getLogger("raftkv.server")

LOOK_S = 0.5
"""Sizes change with commits, about one a second."""
CHANGE_S = 5.0
CLEAR_AT = 0.9
"""Of the quota. The gap keeps the alarm from coming and going with every put at the edge."""

ACTIVATE, DEACTIVATE = rpc_pb2.AlarmRequest.ACTIVATE, rpc_pb2.AlarmRequest.DEACTIVATE


class SpaceAlarm:
    """Watches one node's database. `in_use` tells its bytes without free pages, `alarms` what is on."""

    def __init__(
        self, node: Node, *, quota_bytes: int, in_use: Callable[[], int], alarms: Callable[[], Alarms]
    ) -> None:
        self._node = node
        self._quota_bytes = quota_bytes
        self._in_use = in_use
        self._alarms = alarms

    async def run(self) -> None:
        """Until the node stops."""
        while not self._node.stopped.done():
            for request in self.changes():
                try:
                    await change_alarm(
                        self._node, store_pb2.AlarmChange(request=request, by_itself=True), timeout_s=CHANGE_S
                    )
                except RequestError as error:
                    log.debug("the alarm %s cannot be changed yet: %s", request, error)
            await asyncio.sleep(LOOK_S)

    def changes(self) -> Iterator[rpc_pb2.AlarmRequest]:
        """What is to be raised or ended now."""
        node_id, in_use = self._node.raft.node_id, self._in_use()
        own = next((one for one in self._alarms() if (one.kind, one.member) == (rpc_pb2.NOSPACE, node_id)), None)
        if own is None and in_use > self._quota_bytes:
            log.warning("the database is beyond its quota: %d of %d bytes", in_use, self._quota_bytes)
            yield rpc_pb2.AlarmRequest(action=ACTIVATE, memberID=node_id, alarm=rpc_pb2.NOSPACE)
        if own is not None and own.by_itself and in_use < CLEAR_AT * self._quota_bytes:
            log.info("the database is below its quota again: %d of %d bytes", in_use, self._quota_bytes)
            yield rpc_pb2.AlarmRequest(action=DEACTIVATE, memberID=node_id, alarm=rpc_pb2.NOSPACE)
        if self._node.raft.role is RoleName.LEADER:
            yield from self._of_nobody()

    def _of_nobody(self) -> Iterator[rpc_pb2.AlarmRequest]:
        """Alarms that nodes raised which are no members any more: nobody else would end them."""
        members = {member.ID for member in self._node.members}
        for one in self._alarms():
            if one.by_itself and one.member not in members:
                yield rpc_pb2.AlarmRequest(action=DEACTIVATE, memberID=one.member, alarm=one.message().alarm)
