"""Whether this node can take part in what the cluster does now, or is on the wrong side of a cut.

Requests are held through an election, because it will be over soon. But a node that reaches no quorum will not see its end,
and must not keep its clients waiting when another node could answer them. It knows, about half an election timeout after it
has lost its leader:

- that it has heard from no quorum of its peers for an election timeout, or
- that those whom it hears know a leader that it does not hear (a bridge: they are connected, it is not), or
- from the leader itself, which hears nothing from it (a cut in one direction: we hear, and are not heard).

What may not live here: what is done about it; messages.
"""

from __future__ import annotations

from raftkv.raft.quorum import has_quorum
from raftkv.raft.types import NO_NODE, Membership, NodeId


class Reach:
    """What this node has heard lately, and from whom. Counts ticks; `timeout_ticks` is the election timeout in force."""

    __slots__ = ("_heard", "_leaderless_ticks", "_ticks", "_unheard_ticks", "is_cut_off")

    def __init__(self, timeout_ticks: int) -> None:
        """A node that has just started waits longer: its peers may be starting, too."""
        self._ticks = 0
        self._leaderless_ticks = -4 * timeout_ticks
        self._unheard_ticks = 0
        self._heard: dict[NodeId, tuple[int, bool]] = {}
        self.is_cut_off = False

    def heard(self, node: NodeId, *, elsewhere: bool = False) -> None:
        """A message came from `node`. `elsewhere`: it says that it hears a leader, and we do not."""
        self._heard[node] = (self._ticks, elsewhere)

    def leader_says(self, *, unheard: bool) -> None:
        """The leader that we hear tells whether it hears us."""
        if not unheard:
            self._unheard_ticks = 0
        elif not self._unheard_ticks:
            self._unheard_ticks = 1

    def tick(self, node_id: NodeId, leader: NodeId, membership: Membership, timeout_ticks: int) -> None:
        """Time has passed; judge anew."""
        self._ticks += 1
        self._leaderless_ticks = 0 if leader else self._leaderless_ticks + 1
        if leader in (NO_NODE, node_id):
            self._unheard_ticks = 0  # Nobody is there, or left, to say so.
        else:
            self._unheard_ticks += self._unheard_ticks > 0
        patience_ticks = max(1, timeout_ticks // 2)
        if self._unheard_ticks > patience_ticks:
            self.is_cut_off = True
        elif self._leaderless_ticks < patience_ticks or not membership.voters:
            self.is_cut_off = False
        else:
            self.is_cut_off = not has_quorum(membership, self._useful(node_id, timeout_ticks))

    def _useful(self, node_id: NodeId, timeout_ticks: int) -> set[NodeId]:
        """Those with whom we could elect a leader."""
        oldest = self._ticks - timeout_ticks
        useful = {node for node, (tick, elsewhere) in self._heard.items() if tick > oldest and not elsewhere}
        useful.add(node_id)
        return useful
