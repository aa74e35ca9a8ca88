"""What the core refuses, and says so by raising.

Plain exceptions of the core alone: the shell translates them into answers. Everything here leaves the core unchanged.
"""

from __future__ import annotations

from raftkv.raft.types import NodeId


class RaftError(Exception):
    """The root of the core's exceptions."""


class ProposalDropped(RaftError):
    """Nothing of the proposal was appended or sent; proposing it again later is right."""


class NotLeader(RaftError):
    """Only a leader can do this.

    Attributes:
        leader: who leads as far as this node knows, 0 if it does not.
    """

    def __init__(self, leader: NodeId) -> None:
        super().__init__(f"not the leader (leader: {leader or 'unknown'})")
        self.leader = leader


class MembershipChangeRefused(RaftError):
    """The change is malformed, or it is not the time for it; the message says which."""


class LearnerNotReady(MembershipChangeRefused):
    """A learner is to vote and has not caught up with the leader's log yet."""


class LogLostError(RaftError):
    """The leader knows entries that this node acknowledged and no longer has: its disk lost them, or was exchanged.

    The node must stop: it has broken a promise and may neither vote nor acknowledge.
    """
