"""One node: a bare core, and around it what the product's node does in its own way of doing it (`raftkv.node`).

Held proposals, reads, patience, recovery and the memory of what was applied are the product's own code; threads are replaced by queues
that finish later. What may not live here: faults (`nemesis`), judgements (`checkers`).
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from raftkv.node.patience import Patience
from raftkv.node.proposals import Proposals, Submission
from raftkv.node.reads import Read, Reads
from raftkv.node.recovery import recover_raft
from raftkv.raft import (
    NO_NODE,
    Entry,
    InstallSnapshot,
    Membership,
    MembershipChange,
    Message,
    ProposalDropped,
    Raft,
    RaftConfig,
    Ready,
    RoleName,
    Save,
    SnapshotMeta,
    SoftState,
)
from tests.sim.calls import Call, describe
from tests.sim.checkers import Checkers, View
from tests.sim.disk import Disk
from tests.sim.swarm import ELECTION_TIMEOUT_TICKS, MS, TICK, Swarm
from tests.sim.tier_one.machine import Image, Machine
from tests.sim.world import World

CONTEXT_BITS = 40
TICKS_AFTER_PAUSE_MAX = 2


class Member:
    """Owns one core and carries out what it asks for. Handlers of a life that has ended do nothing."""

    def __init__(
        self, node: int, world: World, checkers: Checkers, initial: Membership, members: dict[int, Member], tick: int
    ) -> None:
        self.id = node
        self.world = world
        self.checkers = checkers
        self.disk = Disk()
        self.tick_length = tick
        self.incarnation = 0
        self.is_up = False
        self.slow_disk = 1
        self.counted_by: tuple[Membership, int] = (initial, 0)
        self.proposed_membership = False
        self._members = members
        self._image = Image(SnapshotMeta(0, 0, initial), 0, {})
        self.start()

    # Life

    def start(self) -> None:
        swarm = self.world.swarm
        self.incarnation += 1
        self.machine = Machine(self._image, self.checkers)
        config = RaftConfig(
            node_id=self.id,
            election_timeout_ticks=ELECTION_TIMEOUT_TICKS,
            heartbeat_interval_ticks=2,
            append_bytes_max=swarm.append_bytes_max,
            inflight_appends_max=swarm.inflight_appends_max,
            uncommitted_bytes_max=swarm.uncommitted_bytes_max,
            committed_bytes_max=swarm.committed_bytes_max,
        )
        rng = random.Random(self.world.rng.getrandbits(64))
        self.raft: Raft = recover_raft(config, self.disk, self.disk.recovered(), self.machine, rng)  # type: ignore[arg-type]
        self.proposals = Proposals(self.id, self.incarnation)
        self.reads = Reads(first_context=self.incarnation << CONTEXT_BITS)
        self._contexts: dict[int, int] = {}
        self._sync_number = 0
        self._saves: deque[tuple[Save | SnapshotMeta, tuple[Message, ...]]] = deque()
        self._held_saves: list[tuple[Save, tuple[Message, ...]]] | None = None
        self._jobs: deque[Any] = deque()
        self._sending: InstallSnapshot | None = None
        self._apply_queued_index = self.raft.applied_index
        self._patience = Patience(swarm.repropose_ticks)
        self._is_leader_awaited = False
        self._is_cut_short = False
        self._last_tick = self.world.now
        self._last_commit = self.world.now
        self.is_up = True
        self.is_paused = False
        self._postponed: list[tuple[Any, tuple[Any, ...]]] = []
        self.view: View = self.checkers.started(self, getattr(self, "view", None))
        self.raft.check()
        self._note_configuration()
        self.world.after(self.world.about(self.tick_length), self._tick, self.incarnation)
        if self.world.trace is not None:
            self.world.say(self, f"starts: term {self.raft.term}, log {self.raft.first_index}..{self.raft.last_index}")
        if self.raft.membership.voters == {self.id}:
            self.raft.campaign()
        self.advance()

    def crash(self) -> None:
        """Everything in memory is gone; of the saves on their way to the disk a prefix may have arrived."""
        while self._saves and self.world.rng.random() < 0.15:
            self._write(self._saves.popleft()[0])
        self._image = self.machine.durable
        self.is_up = False
        if self.world.trace is not None:
            self.world.say(self, f"CRASH, {len(self._saves)} saves lost, disk to {self.disk.last_index}")

    def pause(self, duration: int) -> None:
        """The process stands still. What happens to it meanwhile, happens when it goes on."""
        self.is_paused = True
        self.world.after(duration, self._resume, self.incarnation)

    def _resume(self, incarnation: int) -> None:
        if incarnation == self.incarnation:
            self.resume()

    def resume(self) -> None:
        self.is_paused = False
        for handler, arguments in self._postponed:
            self.world.after(0, handler, *arguments)
        self._postponed = []

    def recover(self) -> None:
        """Whatever ailed it is over: it runs, and its disk is quick from now on."""
        self.slow_disk = 1
        if not self.is_up:
            self.start()
            return
        self.resume()
        if self._saves:
            self._begin_sync()

    def _is_other_life(self, incarnation: int, handler: Any, *arguments: Any) -> bool:
        """Whether an event is for nobody, or has to wait until the process goes on."""
        if incarnation != self.incarnation or not self.is_up:
            return True
        if self.is_paused:
            self._postponed.append((handler, arguments))
            return True
        return False

    # Inputs

    def _tick(self, incarnation: int) -> None:
        if self._is_other_life(incarnation, self._tick, incarnation):
            return
        now = self.world.now
        passed = max(1, (now - self._last_tick) // self.tick_length)
        ticks = min(TICKS_AFTER_PAUSE_MAX, passed)
        self._last_tick = now
        self.raft.ticks_missed(passed - ticks)
        for _ in range(ticks):
            self.raft.tick()
        self._is_leader_awaited = False
        self.proposals.tick()
        if self._patience.tick() and (self._is_cut_short or self.raft.role is not RoleName.LEADER):
            self.ask_again()
        if not self._jobs and now - self._last_commit >= self.world.swarm.commit_interval:
            self._last_commit = now
            self.machine.commit()
            self.compact(self.world.swarm.retained)
        self.world.after(self.tick_length, self._tick, incarnation)
        self.advance()

    def receive(self, message: Message) -> None:
        if self._is_other_life(self.incarnation, self.receive, message):
            return
        if self.world.trace is not None:
            self.world.say(self, f"<- {describe(message)}")
        self.raft.step(message)
        self.advance()

    def receive_snapshot(self, message: InstallSnapshot, image: Image, sender: Member, incarnation: int) -> None:
        """A whole snapshot has arrived. One that comes while another is being installed is turned away."""
        if self._is_other_life(self.incarnation, self.receive_snapshot, message, image, sender, incarnation):
            return
        if self._held_saves is not None:
            return
        if self.world.trace is not None:
            self.world.say(self, f"<- {describe(message)}")
        self._offered = image
        self.raft.step(message)
        self.advance()
        if (self.id, sender.id) not in self.world.cut:
            self.world.after(MS, sender.snapshot_done, incarnation, message, True)

    def snapshot_done(self, incarnation: int, message: InstallSnapshot, has_arrived: bool) -> None:
        if self._is_other_life(incarnation, self.snapshot_done, incarnation, message, has_arrived):
            return
        if self._sending is not message:
            return
        self._sending = None
        if has_arrived:
            self.raft.snapshot_sent(message.receiver, message.snapshot.index)
        else:
            self.raft.snapshot_failed(message.receiver)
        self.advance()

    def submit(self, submission: Submission) -> None:
        self.proposals.submit(submission)
        self.advance()

    def read(self, call: Call) -> None:
        self.reads.add(Read(lambda machine: machine.applied_index, call))  # type: ignore[arg-type]
        self.advance()

    def change_membership(self, change: MembershipChange) -> None:
        self.proposed_membership = True
        try:
            self.raft.propose_membership(change, b"")
            self.advance()
        finally:
            self.proposed_membership = False

    def transfer_leadership(self, target: int) -> None:
        self.raft.transfer_leadership(target)
        self.advance()

    def peer_lost(self, node: int) -> None:
        """The stream to a peer broke."""
        self.raft.peer_unreachable(node)
        if node == self.raft.leader:
            self.ask_again()
        self.advance()

    def leader_gone(self) -> None:
        self.raft.leader_gone()
        self.advance()

    def compact_now(self) -> None:
        self.machine.commit()
        self.compact(0)

    def compact(self, retained: int) -> None:
        """Drop what the state machine has on disk, but for `retained` entries and what a snapshot under way needs next."""
        index = self.machine.durable.meta.index - retained
        if self._sending is not None:
            index = min(index, self._sending.snapshot.index)
        if index < self.raft.first_index or self._held_saves is not None:
            return
        term = self.raft.term_at(index)
        assert term is not None, f"applied entry {index} is not in the log"
        self._queue_save(SnapshotMeta(index, term, self.raft.membership_at(index)), ())
        self.raft.compact(index)

    # The loop's side

    def advance(self) -> None:
        raft = self.raft
        self._pump()
        while raft.has_ready():
            self._carry_out(raft.ready())
            self._pump()
        self.checkers.after(self)
        self._note_configuration()
        self.world.digest(self)

    def _note_configuration(self) -> None:
        """By which configuration the leader will count in its next step, and where that one is in the log."""
        since, membership = self.view.configs[-1]
        self.counted_by = (membership, since)

    def _pump(self) -> None:
        if self._is_leader_awaited or self.raft.leader == NO_NODE:
            return
        while (batch := self.proposals.next_batch()) is not None:
            try:
                self.raft.propose([batch.proposal])
            except ProposalDropped:
                self.proposals.put_back(batch)
                self._is_leader_awaited = True
                return
            if self.proposals.in_flight_count == 1:
                self._patience.moved()
        context = self.reads.next_round()
        if context is not None:
            self._contexts[context] = self.checkers.last_committed
            self.raft.read_index(context)

    def ask_again(self) -> None:
        self.reads.ask_again()
        self._is_cut_short = False
        if self.raft.leader == NO_NODE:
            return
        try:
            for batch in self.proposals.unresolved():
                self.raft.propose([batch.proposal])
        except ProposalDropped:
            self._is_leader_awaited = self._is_cut_short = True
            self._patience.refused()

    def _carry_out(self, ready: Ready) -> None:
        self.checkers.ready(self, ready)
        self._send(ready.messages)
        if ready.install is not None:
            assert self._held_saves is None, "a snapshot arrived while another is being installed"
            assert self._offered.meta == ready.install, "told to install what did not arrive"
            self._held_saves = []
            self._queue_job(self._offered)
            self._apply_queued_index = ready.install.index
        if ready.save is not None:
            self._save(ready.save, ready.messages_after_save)
        else:
            assert not ready.messages_after_save, "promises about our disk without a save"
        if ready.committed:
            self._queue_job(ready.committed)
            self._apply_queued_index = ready.committed[-1].index
        for state in ready.read_states:
            floor = self._contexts.pop(state.context, 0)
            if state.index is not None:
                self.checkers.read_done(self, floor, state.index)
            self.reads.answered(state.context, state.index)
            self._is_leader_awaited |= state.index is None
        if reads := self.reads.take_ready(self._apply_queued_index):
            self._queue_job(reads)
        for node in ready.snapshots_wanted:
            self._send_snapshot(node)
        if ready.proposals_rejected:
            self._is_leader_awaited = True
            self._patience.refused()
        if ready.soft_state is not None:
            self._soft_state_changed(ready.soft_state)

    def _soft_state_changed(self, state: SoftState) -> None:
        if self.world.trace is not None:
            self.world.say(self, f"is {state.role.value} in term {state.term}, leader {state.leader or '?'}")
        if state.leader != NO_NODE:
            self._patience.moved()
            self.ask_again()

    def _send(self, messages: tuple[Message, ...]) -> None:
        for message in messages:
            self.checkers.sending(self, message)
            self.world.send(message)

    def _send_snapshot(self, node: int) -> None:
        """One at a time; the answer is lost with the connection, and then counts as a failure."""
        world, image = self.world, self.machine.image()
        if self._sending is not None or self.raft.role is not RoleName.LEADER:
            self.raft.snapshot_failed(node)
            return
        self._sending = message = InstallSnapshot(
            sender=self.id, receiver=node, term=self.raft.term, snapshot=image.meta
        )
        world.after(40 * TICK, self.snapshot_done, self.incarnation, message, False)
        if (self.id, node) not in world.cut and (not world.is_hostile or world.rng.random() >= world.swarm.loss):
            delay = world.about(3 * world.swarm.delay)
            target = self._members[node]
            world.after(delay, target.receive_snapshot, message, image, self, self.incarnation)

    # The log's thread

    def _save(self, save: Save, messages: tuple[Message, ...]) -> None:
        if self._held_saves is not None:
            self._held_saves.append((save, messages))
        else:
            self._queue_save(save, messages)

    def _queue_save(self, save: Save | SnapshotMeta, messages: tuple[Message, ...]) -> None:
        self._saves.append((save, messages))
        if len(self._saves) == 1:
            self._begin_sync()

    def _begin_sync(self) -> None:
        self._sync_number += 1
        self.world.after(self._save_delay(), self._saves_done, self.incarnation, self._sync_number)

    def _save_delay(self) -> int:
        swarm: Swarm = self.world.swarm
        if not self.world.is_hostile:
            return self.world.about(min(swarm.save_delay, 2 * MS))
        return self.world.about(swarm.save_delay) * self.slow_disk

    def _saves_done(self, incarnation: int, number: int) -> None:
        """What was handed over when this sync began is durable; what came since waits for the next one."""
        if self._is_other_life(incarnation, self._saves_done, incarnation, number) or number != self._sync_number:
            return
        for _ in range(self.world.rng.randrange(1, len(self._saves) + 1)):
            save, messages = self._saves.popleft()
            self._write(save)
            if isinstance(save, Save):
                self._send(messages)
                self.raft.saved(save.mark)
        if self._saves:
            self._begin_sync()
        self.advance()

    def _write(self, save: Save | SnapshotMeta) -> None:
        if isinstance(save, Save):
            self.disk.write(save)
        else:
            self.disk.compact(save)

    # The state machine's thread

    def _queue_job(self, job: Any) -> None:
        if not self._jobs:
            self.world.after(self._apply_delay(), self._jobs_done, self.incarnation)
        self._jobs.append(job)

    def _apply_delay(self) -> int:
        swarm = self.world.swarm
        return self.world.about(swarm.apply_delay if self.world.is_hostile else min(swarm.apply_delay, MS))

    def _jobs_done(self, incarnation: int) -> None:
        if self._is_other_life(incarnation, self._jobs_done, incarnation):
            return
        for _ in range(self.world.rng.randrange(1, len(self._jobs) + 1)):
            self._do(self._jobs.popleft())
        if self._jobs:
            self.world.after(self._apply_delay(), self._jobs_done, incarnation)
        self.advance()

    def _do(self, job: Any) -> None:
        if isinstance(job, Image):
            self.machine.install(job)
            self.world.after(self.world.about(MS), self._installed, self.incarnation, job.meta.index)
        elif isinstance(job, tuple):
            self._apply(job)
        else:
            for read in job:
                if not read.future.done():
                    read.future.set_result(self.machine.applied_index)
                    self.checkers.read_done(self, read.future.begun_at, self.machine.applied_index)

    def _apply(self, entries: tuple[Entry, ...]) -> None:
        me = (self.id, self.incarnation)
        for entry in entries:
            batch = self.machine.apply(entry)
            if batch is not None and (batch.origin, batch.incarnation) == me:
                self.checkers.acknowledged += batch.count
                if self.proposals.resolve(batch.sequence, [entry.index] * batch.count):
                    self._patience.moved()
        self.raft.applied(entries[-1].index)

    def _installed(self, incarnation: int, index: int) -> None:
        """The snapshot is the state, durably. Only now may the log on disk start anew behind it."""
        if self._is_other_life(incarnation, self._installed, incarnation, index):
            return
        held, self._held_saves = self._held_saves or [], None
        for save, messages in held:
            self._queue_save(save, messages)
        self.raft.applied(index)
        for batch in list(self.proposals.unresolved()):
            if self.machine.origins.is_applied(self.id, self.incarnation, batch.sequence):
                self.proposals.resolve(batch.sequence, None)
        self.ask_again()
        self.advance()

    @property
    def state(self) -> int:
        """Equal at equal applied indexes."""
        return self.machine.chain

    @property
    def is_idle(self) -> bool:
        """Nobody waits for anything here."""
        return self.proposals.is_idle and self.reads.is_idle

    def __str__(self) -> str:
        return f"n{self.id}"
