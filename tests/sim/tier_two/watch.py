"""Where the checkers look into a running node: at everything its core hands out, and at its state machine.

What may not live here: judgements that the checkers of both tiers make.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from raftkv.pb import rpc_pb2
from raftkv.raft import MembershipChange, MembershipChangeRefused, Message, Ready, RoleName, VoteRequest
from raftkv.statemachine import StateMachine
from tests.sim.checkers import Checkers, Violation

if TYPE_CHECKING:
    from tests.sim.tier_two.leases import LeaseWatch
    from tests.sim.tier_two.member import Member

HASHED_EVERY = 4
"""Of the applied indexes a state machine stops at, these are compared: a hash costs as much as many applies."""


def watch_core(member: Member) -> None:
    """Let the checkers see each Ready before the node does, and what an input leads to before the next one comes.

    A node takes several inputs in before it asks for what came of them: it may have led in between.
    """
    raft, checkers, world = member.raft, member.checkers, member.world
    hand_out, step, propose_membership = raft.ready, raft.step, raft.propose_membership

    def ready() -> Ready:
        result = hand_out()
        if world.trace is not None and (soft := result.soft_state) is not None:
            world.say(member, f"is {soft.role.value} in term {soft.term}, leader {soft.leader or '?'}")
        checkers.ready(member, result)
        return result

    def watched_step(message: Message) -> None:
        led, voted = raft.role is RoleName.LEADER, (raft.term, raft.vote)
        step(message)
        if led:
            checkers.led(member)
        if isinstance(message, VoteRequest) and (raft.term, raft.vote) == (message.term, message.sender) != voted:
            checkers.voted(member, message)

    def watched_change(change: MembershipChange, data: bytes) -> None:
        if not world.is_hostile:  # Asked of a node that stood still: whoever chose a quorum to heal knew nothing of it.
            raise MembershipChangeRefused("the time for changes is over")
        member.proposed_membership = True
        propose_membership(change, data)

    def watched(name: str) -> None:
        original = getattr(raft, name)

        def take(argument: Any) -> None:
            led = raft.role is RoleName.LEADER
            original(argument)
            if led:
                checkers.led(member)

        setattr(raft, name, take)

    raft.ready, raft.step = ready, watched_step  # type: ignore[method-assign]
    raft.propose_membership = watched_change  # type: ignore[method-assign]
    watched("saved")


class StateWatch:
    """Compares the state machines of all nodes, where they stand at the same index."""

    def __init__(self, checkers: Checkers, leases: LeaseWatch) -> None:
        self._checkers = checkers
        self._leases = leases
        self._applied: dict[tuple[int, int], int] = {}
        self._values: dict[tuple[bytes, int], bytes] = {}

    def look(self, member: Member) -> None:
        """A job is done."""
        machine = member.machine
        index, life = machine.applied_index, (member.id, member.incarnation)
        before = self._applied.get(life, 0)
        if index < before:
            raise Violation("monotone applied", f"{member} applied {before}, and then {index}")
        if index == before:
            return
        self._applied[life] = index
        if index > self._checkers.last_committed:
            raise Violation(
                "state machine safety", f"{member} applied {index}, committed {self._checkers.last_committed}"
            )
        self._leases.look(machine)
        if index % HASHED_EVERY == 0 and member.id in machine.membership.members:
            # (Who is still to join knows of the others what it was told, and of no membership.)
            self._checkers.state(index, self.digest(machine))

    def told(self, key: bytes, mod_revision: int, value: bytes) -> None:
        """Any read, of any node, at any time: a key at a revision has one value."""
        known = self._values.setdefault((key, mod_revision), value)
        if known != value:
            raise Violation("one value a revision", f"{key!r} at {mod_revision} is {known!r} and {value!r}")

    def read_locally(
        self, life: tuple[int, int], seen: dict[tuple[int, int], int], found: rpc_pb2.RangeResponse
    ) -> None:
        """One life of a node answered from its own state."""
        revision = found.header.revision
        if revision < seen.get(life, 0):
            raise Violation("local reads go forward", f"n{life[0]} showed revision {seen[life]}, and now {revision}")
        seen[life] = revision
        for kv in found.kvs:
            self.told(kv.key, kv.mod_revision, kv.value)

    @staticmethod
    def digest(machine: StateMachine) -> int:
        """Everything that nodes must agree on at an index: keys, revisions, leases, members, who has had what applied."""
        kv = machine.hash_kv()
        membership = machine.membership
        records: Any = machine._records
        leases = machine._store.leases
        text = repr(
            (
                kv,
                sorted(membership.voters),
                sorted(membership.outgoing_voters),
                sorted(membership.learners),
                sorted(membership.learners_next),
                machine.table.encode(),
                leases.clock_ms,
                leases.set_hash,
                sorted((origin, record.encode()) for origin, record in records.origins._records.items()),
                sorted((session, record.encode()) for session, record in records.sessions._sessions.items()),
            )
        )
        return zlib.crc32(text.encode())
