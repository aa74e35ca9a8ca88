"""The leader's sending side: one `Progress` per follower, appends, heartbeats, and what their answers mean.

Appends are not sent by the handlers but by `flush`, once per `Ready`: whatever was proposed or acknowledged since the last
one goes to each follower as one append, without waiting for anything.

What may not live here: commit decisions, proposals, reads (`leader`).
"""

from __future__ import annotations

from raftkv.raft.messages import AppendRequest, AppendResponse, HeartbeatRequest, HeartbeatResponse, Resigned
from raftkv.raft.progress import InFlight, Progress, ProgressState
from raftkv.raft.quorum import quorum_index
from raftkv.raft.state import State
from raftkv.raft.status import FollowerStatus
from raftkv.raft.types import NodeId


class Replication:
    """Progress of every member but ourselves, in ascending order of ids (equal seeds must give equal traces)."""

    __slots__ = ("_progress", "_ticks", "wants_flush")

    def __init__(self, state: State) -> None:
        self._ticks = 0
        self._progress: dict[NodeId, Progress] = {}
        self.wants_flush = True
        self.sync_members(state)

    def sync_members(self, state: State) -> None:
        """The membership in force changed: newcomers start as probes.

        Who has left still gets the entry that says so, if that can be done within an election timeout: it then knows what
        became of everything it proposed, and stops by itself.
        """
        old = self._progress
        members = [node for node in state.membership.members if node != state.node_id]
        for node in old.keys() - members:
            if not old[node].leaves_at:
                old[node].leaves_at, old[node].left_tick = state.memberships.current_index, self._ticks
        self._progress = {}
        for node in sorted({*members, *old}):
            progress = old.get(node)
            if progress is None or (progress.leaves_at and node in members):
                progress = self._newcomer(state)
            self._progress[node] = progress
        self.wants_flush = True

    def _newcomer(self, state: State) -> Progress:
        config = state.config
        return Progress(
            next_index=state.log.last_index + 1,
            in_flight=InFlight(config.inflight_appends_max, config.inflight_bytes_max),
            heard_tick=self._ticks,
        )

    def tick(self, state: State) -> None:
        self._ticks += 1
        for node, progress in list(self._progress.items()):
            waited_ticks = self._ticks - progress.left_tick
            is_lost = progress.state is ProgressState.SNAPSHOT or waited_ticks > state.config.election_timeout_ticks
            if progress.leaves_at and (progress.knows_it_left or is_lost):
                del self._progress[node]

    def match_index(self, node: NodeId) -> int:
        progress = self._progress.get(node)
        return progress.match_index if progress else 0

    def acked_round(self, node: NodeId) -> int:
        progress = self._progress.get(node)
        return progress.acked_round if progress else 0

    def is_caught_up(self, state: State, node: NodeId) -> bool:
        """Whether a learner may become a voter: nine tenths of the log are there, and the rest is flowing."""
        progress = self._progress.get(node)
        return (
            progress is not None
            and progress.state is ProgressState.REPLICATE
            and progress.match_index * 10 >= state.log.last_index * 9
        )

    def quorum_silent_ticks(self, state: State) -> int:
        """How long ago a quorum, ourselves included, had been heard for the last time."""
        return self._ticks - quorum_index(
            state.membership,
            lambda node: progress.heard_tick if (progress := self._progress.get(node)) else self._ticks,
        )

    def active_nodes(self, state: State) -> set[NodeId]:
        """Who has answered within an election timeout, and ourselves."""
        oldest = self._ticks - state.timeout_ticks
        active = {node for node, progress in self._progress.items() if progress.heard_tick > oldest}
        active.add(state.node_id)
        return active

    def best_successor(self, state: State, *, severity_below: int | None = None) -> NodeId:
        """Answering, voting in the incoming half, least unfit to lead, then furthest along; 0 if there is none.

        With `severity_below` only who has said in this term that it is less unfit than that, and follows closely.
        """
        active = self.active_nodes(state)
        candidates = [
            (progress.severity or 0, -progress.match_index, node)
            for node, progress in self._progress.items()
            if node in active and node in state.membership.voters
            if severity_below is None or self._is_fitter(progress, severity_below)
        ]
        return min(candidates)[2] if candidates else 0

    def _is_fitter(self, progress: Progress, severity_below: int) -> bool:
        is_known = progress.severity is not None and progress.severity < severity_below
        return is_known and progress.state is ProgressState.REPLICATE

    def on_append_response(self, state: State, message: AppendResponse) -> bool:
        """True if the follower's match index advanced."""
        progress = self._progress.get(message.sender)
        if progress is None:
            return False
        self._heard(progress)
        if message.accepted:
            assert message.match_index <= state.log.last_index, f"{message} beyond last {state.log.last_index}"
            advanced = progress.accepted(message.match_index, state.log.first_index)
            if advanced:
                progress.moved_tick = self._ticks
            return advanced
        agree = message.conflict_index
        if message.conflict_term:
            agree = state.log.last_index_of_term_at_most(agree, message.conflict_term)
        progress.refused(message.prev_index, agree)
        return False

    def on_heartbeat_response(self, state: State, message: HeartbeatResponse) -> None:
        progress = self._progress.get(message.sender)
        if progress is None:
            return
        self._heard(progress)
        progress.severity = message.severity
        progress.acked_round = max(progress.acked_round, message.read_round)
        if progress.state is ProgressState.PROBE:
            progress.probe_sent = False
        elif progress.state is ProgressState.REPLICATE and progress.match_index < progress.next_index - 1:
            self._ask_about_lost_appends(state, message.sender, progress)

    def _heard(self, progress: Progress) -> None:
        progress.heard_tick = self._ticks
        progress.has_answered = True
        self.wants_flush = True

    def _ask_about_lost_appends(self, state: State, node: NodeId, progress: Progress) -> None:
        """It is alive, but has acknowledged nothing for a heartbeat interval: its answer to an empty append tells why."""
        if self._ticks - progress.moved_tick >= state.config.heartbeat_interval_ticks:
            progress.moved_tick = self._ticks
            self._send_append(state, node, progress, empty=True)

    def send_heartbeats(self, state: State, read_round: int) -> None:
        commit_index = state.log.commit_index
        unheard_since = self._ticks - state.timeout_ticks // 2
        for node, progress in self._progress.items():
            state.send(
                HeartbeatRequest(
                    sender=state.node_id,
                    receiver=node,
                    term=state.term,
                    # Not beyond what is known to match: the follower's log may go on with another leader's entries.
                    commit_index=min(commit_index, progress.match_index),
                    read_round=read_round,
                    unheard=not progress.has_answered or progress.heard_tick < unheard_since,
                )
            )

    def send_resignations(self, state: State) -> None:
        """Tell everybody that we lead no more: who hears it need not wait for our silence to last."""
        for node in self._progress:
            state.send(Resigned(sender=state.node_id, receiver=node, term=state.term))

    def flush(self, state: State) -> None:
        """Send every follower what it may be sent."""
        self.wants_flush = False
        for node, progress in self._progress.items():
            self._catch_up(state, node, progress)

    def _catch_up(self, state: State, node: NodeId, progress: Progress) -> None:
        log = state.log
        if progress.is_paused or progress.knows_it_left:
            return
        if progress.next_index <= log.base_index:
            progress.become_snapshot()
            if progress.leaves_at:
                return  # Too far behind to be told.
            state.outbox.snapshots_wanted.append(node)
            return
        if progress.state is ProgressState.PROBE:
            self._send_append(state, node, progress)
            return
        while progress.next_index <= log.last_index and not progress.in_flight.is_full:
            self._send_append(state, node, progress)
        if progress.commit_sent < log.commit_index and not progress.in_flight.is_full:
            self._send_append(state, node, progress, empty=True, is_notice=True)

    def _send_append(
        self, state: State, node: NodeId, progress: Progress, *, empty: bool = False, is_notice: bool = False
    ) -> None:
        log = state.log
        prev_index = progress.next_index - 1
        prev_term = log.term_at(prev_index)
        if prev_term is None:
            progress.become_probe(
                progress.match_index + 1
            )  # Compacted under a lost append: `flush` asks for a snapshot.
            return
        entries = () if empty else log.slice(prev_index + 1, log.last_index, state.config.append_bytes_max)
        state.send(
            AppendRequest(
                sender=state.node_id,
                receiver=node,
                term=state.term,
                prev_index=prev_index,
                prev_term=prev_term,
                commit_index=log.commit_index,
                entries=entries,
                is_notice=is_notice,
            )
        )
        progress.commit_sent = log.commit_index
        progress.sent(prev_index + len(entries), sum(entry.size for entry in entries))

    def unreachable(self, node: NodeId) -> None:
        """What was in flight is probably lost."""
        progress = self._progress.get(node)
        if progress is not None and progress.state is ProgressState.REPLICATE:
            progress.become_probe(progress.match_index + 1)
            self.wants_flush = True

    def snapshot_sent(self, node: NodeId, index: int) -> None:
        """It has a snapshot at `index`: go on behind it, when its acknowledgement or a heartbeat's answer arrives."""
        self._leave_snapshot(node, index)

    def snapshot_failed(self, node: NodeId) -> None:
        """Probe again, when it answers a heartbeat: not at once, or a dead receiver would keep us busy."""
        self._leave_snapshot(node, 0)

    def _leave_snapshot(self, node: NodeId, index: int) -> None:
        progress = self._progress.get(node)
        if progress is not None and progress.state is ProgressState.SNAPSHOT:
            progress.become_probe(max(progress.match_index, index) + 1)
            progress.probe_sent = True

    def status(self, state: State) -> dict[NodeId, FollowerStatus]:
        active = self.active_nodes(state)
        return {
            node: FollowerStatus(
                match_index=progress.match_index,
                next_index=progress.next_index,
                state=progress.state,
                recent_active=node in active,
                in_flight_count=len(progress.in_flight),
                is_learner=not state.membership.is_voter(node),
                severity=progress.severity,
            )
            for node, progress in self._progress.items()
            if not progress.leaves_at
        }

    def check(self, state: State) -> None:
        members = tuple(node for node in state.membership.members if node != state.node_id)
        assert tuple(node for node, progress in self._progress.items() if not progress.leaves_at) == members, (
            "strangers"
        )
        for progress in self._progress.values():
            progress.check()
            assert progress.match_index <= state.log.last_index, f"match {progress.match_index} beyond the log"
