"""The Flight service: what this node remembers, for `raftkv why`.

It answers with or without a leader and touches no disk: it is asked when something is wrong.

What may not live here: what is remembered (`node.flight_record`), and what is made of it (`lab.timeline`).
"""

from __future__ import annotations

import time

from raftkv.node import Node
from raftkv.pb import flight_pb2
from raftkv.server.services import Serve, header

RECORD_PATH = "/raftkv.flight.Flight/Record"
BYTES_DEFAULT = 1024 * 1024
BYTES_MAX = 2 * 1024 * 1024
"""As much as a node keeps; with the rest of the answer below the 4 MiB that a gRPC client takes by default."""


class FlightService:
    """Record."""

    def __init__(self, node: Node, name: str) -> None:
        self._node = node
        self._name = name

    def methods(self) -> dict[str, Serve]:
        return {RECORD_PATH: self.record}

    async def record(self, request: flight_pb2.RecordRequest, hold_s: float) -> flight_pb2.RecordResponse:
        lines, is_cut = self._node.flight.lines(min(request.bytes_max or BYTES_DEFAULT, BYTES_MAX))
        return flight_pb2.RecordResponse(
            header=header(self._node, 0),
            name=self._name,
            clock=time.time(),
            lines=lines,
            is_cut=is_cut,
            members=self._node.members,
        )
