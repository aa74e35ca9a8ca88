"""The Drill service: a node breaks something in itself, on request, for a while. Served only with --enable-drills.

What may not live here: how a broken disk or network is felt (``drill_faults.py``), and any judgement on what follows.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time

from raftkv.errors import FailedPrecondition, InvalidArgument
from raftkv.node import Node
from raftkv.pb.drill_pb2 import BreakRequest, BreakResponse, Fault, HealRequest, HealResponse
from raftkv.server.drill_faults import DrillFaults
from raftkv.server.services import Serve

log = logging.getLogger("raftkv.server")

DURATION_MAX_S = 60.0
ANSWER_FIRST_S = 0.02
"""The answer leaves before the process dies or stands still."""


class DrillService:
    """Break and Heal, of this node alone."""

    def __init__(self, node: Node, faults: DrillFaults) -> None:
        self._node = node
        self._faults = faults

    def methods(self) -> dict[str, Serve]:
        return {"/raftkv.drill.Drill/Break": self.break_something, "/raftkv.drill.Drill/Heal": self.heal}

    async def break_something(self, request: BreakRequest, _hold_s: float) -> BreakResponse:
        """Begin a fault.

        Raises:
            InvalidArgument: an unknown fault, or a duration that is none or too long.
            FailedPrecondition: something is broken here already.
        """
        fault, duration_s = request.fault, request.duration_ms / 1000
        if fault not in Fault.values():
            raise InvalidArgument(f"drill: this node knows no fault {int(fault)}")
        if fault == Fault.NONE:
            return BreakResponse()
        if not 0 < duration_s <= DURATION_MAX_S:
            raise InvalidArgument(
                f"drill: a fault lasts 1 to {DURATION_MAX_S * 1000:.0f} ms, not {request.duration_ms}"
            )
        if (there := self._faults.fault) != Fault.NONE:
            raise FailedPrecondition(
                f"drill: {Fault.Name(there)} is on for another {self._faults.remaining_s:.1f} s; heal it first"
            )
        log.warning("drill: %s, for at most %g s", Fault.Name(fault), duration_s)
        self._node.flight.note("drill", fault=Fault.Name(fault), state="begun")
        self._faults.begin(fault, duration_s)
        loop = asyncio.get_running_loop()
        if fault == Fault.CRASH:
            loop.call_later(ANSWER_FIRST_S, os.kill, os.getpid(), signal.SIGKILL)
        elif fault == Fault.HANG:
            loop.call_later(ANSWER_FIRST_S, self._hang)
        return BreakResponse()

    async def heal(self, _request: HealRequest, _hold_s: float) -> HealResponse:
        """End what is broken. A hang cannot be ended so: nobody listens."""
        healed = self._faults.heal()
        if healed != Fault.NONE:
            log.warning("drill: %s is over", Fault.Name(healed))
            self._node.flight.note("drill", fault=Fault.Name(healed), state="over")
        return HealResponse(healed=healed)

    def _hang(self) -> None:
        """Hold up the state machine's thread and, by not returning, the event loop."""
        self._node.run(lambda _: self._faults.wait_while(Fault.HANG))
        time.sleep(self._faults.remaining_s)
