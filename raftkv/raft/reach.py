"""Whether this node can take part in what the cluster does now, or is on the wrong side of a cut.

Requests are held through an election, because it will be over soon. But a node that reaches no quorum will not see its end,
and must not keep its clients waiting when another node could answer them. It knows, about half an election timeout after it
has lost its leader:

- that it has heard from no quorum of its peers since then (nor lately: a campaign asks them all, and takes two timeouts), or
- that those whom it hears know a leader that it does not hear (a bridge: they are connected, it is not), or
- from the leader itself, which hears nothing from it (a cut in one direction: we hear, and are not heard).

What may not live here: what is done about it; messages.
"""

from __future__ import annotations

from raftkv.raft.quorum import has_quorum
from raftkv.raft.types import NO_NODE, Membership, NodeId


class Reach:
    """What this node has heard lately, and from whom. Counts ticks; `timeout_ticks` is the election timeout in force."""

    __slots__ = ("_heard", "_is_unheard", "_leaderless_ticks", "_ticks", "_unheard_by", "_unheard_since", "is_cut_off")

    def __init__(self, timeout_ticks: int) -> None:
        """A node that has just started waits longer: its peers may be starting, too."""
        self._ticks = 0
        self._leaderless_ticks = -4 * timeout_ticks
        self._unheard_by = NO_NODE
        self._unheard_since = 0
        self._is_unheard = False
        self._heard: dict[NodeId, tuple[int, bool]] = {}
        self.is_cut_off = False

    def heard(self, node: NodeId, *, elsewhere: bool = False) -> None:
        """A message came from `node`. `elsewhere`: it says that it hears a leader, and we do not."""
        self._heard[node] = (self._ticks, elsewhere)

    def leader_says(self, leader: NodeId, *, unheard: bool, timeout_ticks: int) -> None:
        """The leader that we hear tells whether it hears us. One that has just been elected has heard nobody yet."""
        if not unheard or leader != self._unheard_by:
            self._unheard_by = leader if unheard else NO_NODE
            self._unheard_since = self._ticks
        self._is_unheard = unheard and self._ticks - self._unheard_since > _patience(timeout_ticks)

    def tick(self, node_id: NodeId, leader: NodeId, membership: Membership, timeout_ticks: int) -> None:
        """Time has passed; judge anew."""
        self._ticks += 1
        self._leaderless_ticks = 0 if leader else self._leaderless_ticks + 1
        if leader != self._unheard_by:
            self._unheard_by, self._is_unheard = NO_NODE, False  # Nobody is there, or left, to say so.
        if self._is_unheard:
            self.is_cut_off = True
        elif self._leaderless_ticks < _patience(timeout_ticks) or not membership.voters:
            self.is_cut_off = False
        else:
            self.is_cut_off = not has_quorum(membership, self._useful(node_id, timeout_ticks))

    def _useful(self, node_id: NodeId, timeout_ticks: int) -> set[NodeId]:
        """Those with whom we could elect a leader."""
        oldest = self._ticks - min(self._leaderless_ticks, 2 * timeout_ticks)
        useful = {node for node, (tick, elsewhere) in self._heard.items() if tick >= oldest and not elsewhere}
        useful.add(node_id)
        return useful


def _patience(timeout_ticks: int) -> int:
    """How long bad news must last."""
    return max(1, timeout_ticks // 2)
