"""Bare cores in a row: the harness of the Raft tests. No clock, no sockets, no disks; messages are passed by hand.

A `Group` owns the nodes and the messages between them. `settle()` carries everything out until nothing is left to do. A
test that wants a disaster in between cuts links, holds saves back, drops or reorders messages, crashes nodes.

Logs are written as in traces: "1@1 2@1 3@2".
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from raftkv.raft import (
    Entry,
    EntryKind,
    HardState,
    InstallSnapshot,
    Membership,
    MembershipChange,
    Message,
    Proposal,
    Raft,
    RaftConfig,
    Ready,
    RoleName,
    Save,
    SnapshotMeta,
)

Applied = tuple[int, int, bytes]


def parse_log(text: str) -> list[Entry]:
    """Entries from "1@1 2@1": the payload is the entry's own name."""
    entries = []
    for word in text.split():
        index, term = word.split("@")
        entries.append(Entry(int(index), int(term), EntryKind.COMMANDS, word.encode()))
    return entries


def voters(*nodes: int, learners: Iterable[int] = ()) -> Membership:
    return Membership(voters=frozenset(nodes), learners=frozenset(learners))


def change(*nodes: int, learners: Iterable[int] = ()) -> MembershipChange:
    return MembershipChange(voters=frozenset(nodes), learners=frozenset(learners))


@dataclass
class Disk:
    """What survives a crash: the log with its base, the hard state, and the state machine as last committed."""

    base: SnapshotMeta
    entries: list[Entry] = field(default_factory=list)
    hard_state: HardState = field(default_factory=HardState)
    machine: list[Applied] = field(default_factory=list)
    machine_at: SnapshotMeta | None = None

    def write(self, save: Save) -> None:
        if save.reset_to is not None:
            self.base, self.entries = save.reset_to, []
        if save.entries:
            keep = save.entries[0].index - self.base.index - 1
            assert 0 <= keep <= len(self.entries), f"a gap: {save.entries[0]} behind {self.base} + {len(self.entries)}"
            self.entries[keep:] = save.entries
        if save.hard_state is not None:
            self.hard_state = save.hard_state


class Node:
    """One core with its disk and state machine."""

    def __init__(self, config: RaftConfig, disk: Disk, seed: int) -> None:
        self.config = config
        self.disk = disk
        self.seed = seed
        self.hold_saves = False
        self.hold_apply = False
        self.start()

    def start(self) -> None:
        """Come up from what is on disk."""
        disk = self.disk
        self.machine = list(disk.machine)
        applied = disk.machine_at or disk.base
        if applied.index > disk.base.index + len(disk.entries):
            disk.base, disk.entries = applied, []  # The state machine is ahead of the log: it starts anew behind it.
        self.saves: list[tuple[Save, tuple[Message, ...]]] = []
        self.to_apply: list[Entry] = []
        self.reads: dict[int, int | None] = {}
        self.rejected = False
        self.snapshots_wanted: list[int] = []
        self.raft = Raft(
            self.config,
            hard_state=disk.hard_state,
            snapshot=disk.base,
            entries=disk.entries,
            applied_index=max(applied.index, disk.base.index),
            rng=random.Random(self.seed),
        )
        self.raft.check()

    def log(self) -> str:
        return " ".join(str(self.raft.entry(i)) for i in range(self.raft.first_index, self.raft.last_index + 1))

    def commands(self) -> list[str]:
        """Payloads that the state machine has seen, in order."""
        return [data.decode() for _, _, data in self.machine if data]


class Group:
    """Nodes, the messages under way between them, and which links are cut."""

    def __init__(self, nodes: Mapping[int, Node]) -> None:
        self.nodes = dict(nodes)
        self.network: list[Message] = []
        self.cut_links: set[tuple[int, int]] = set()
        self.down: set[int] = set()
        self.snapshots: dict[tuple[int, int], list[Applied]] = {}
        self.sent: list[Message] = []
        self.observe: Callable[[Node, Ready], None] = lambda node, ready: None

    def __getitem__(self, node: int) -> Raft:
        return self.nodes[node].raft

    @property
    def up(self) -> list[int]:
        return [node for node in sorted(self.nodes) if node not in self.down]

    @property
    def leader(self) -> Raft:
        """The leader of the highest term."""
        leaders = [self[node] for node in self.up if self[node].role is RoleName.LEADER]
        assert leaders, "nobody leads"
        return max(leaders, key=lambda raft: raft.term)

    # Carrying out

    def carry_out(self, node: int) -> None:
        """Do what one node's `Ready` asks for, once."""
        this = self.nodes[node]
        ready = this.raft.ready()
        self.observe(this, ready)
        self.post(ready.messages)
        if ready.save is not None:
            this.saves.append((ready.save, ready.messages_after_save))
        else:
            assert not ready.messages_after_save, "promises without a save"
        if ready.install is not None:
            assert ready.save is not None, "an install without a save"
            assert ready.save.reset_to == ready.install, "install and save disagree"
            this.to_apply.clear()
            this.machine = list(self.snapshots[(ready.install.index, ready.install.term)])
            this.disk.machine, this.disk.machine_at = list(this.machine), ready.install
            this.raft.applied(ready.install.index)
        this.to_apply.extend(ready.committed)
        this.reads.update((state.context, state.index) for state in ready.read_states)
        this.rejected |= ready.proposals_rejected
        this.snapshots_wanted.extend(ready.snapshots_wanted)
        this.raft.check()

    def finish_saves(self, node: int, count: int | None = None) -> None:
        """The disk of `node` completes its oldest saves (all of them, if no count is given)."""
        this = self.nodes[node]
        done, this.saves = this.saves[:count], this.saves[count:] if count is not None else []
        for save, after in done:
            this.disk.write(save)
            self.post(after)
            this.raft.saved(save.mark)

    def apply(self, node: int) -> None:
        this = self.nodes[node]
        for entry in this.to_apply:
            before = this.machine[-1][0] if this.machine else 0
            assert entry.index == before + 1, f"{entry} is applied behind {before}"
            this.machine.append((entry.index, entry.term, entry.data))
        if this.to_apply:
            this.raft.applied(this.to_apply[-1].index)
            this.to_apply.clear()

    def commit_machine(self, node: int) -> None:
        """The state machine of `node` makes what it has applied durable."""
        this = self.nodes[node]
        index = this.raft.applied_index
        term = this.raft.term_at(index)
        assert term is not None
        this.disk.machine = list(this.machine)
        this.disk.machine_at = SnapshotMeta(index, term, this.raft.membership_at(index))

    def stream_snapshots(self, node: int) -> None:
        """Send the snapshots that `node` was asked for: of what it has applied."""
        this = self.nodes[node]
        wanted, this.snapshots_wanted = this.snapshots_wanted, []
        for follower in wanted:
            index = this.raft.applied_index
            term = this.raft.term_at(index)
            if this.raft.role is not RoleName.LEADER or term is None:
                continue
            if not self.connected(node, follower):
                this.raft.snapshot_failed(follower)
                continue
            meta = SnapshotMeta(index, term, this.raft.membership_at(index))
            self.snapshots[(index, term)] = list(this.machine)
            self.post([InstallSnapshot(sender=node, receiver=follower, term=this.raft.term, snapshot=meta)])
            this.raft.snapshot_sent(follower, index)

    def run_node(self, node: int) -> bool:
        """Everything one node can do without hearing from others; False if there was nothing."""
        this = self.nodes[node]
        busy = False
        while this.raft.has_ready():
            busy = True
            self.carry_out(node)
            if not this.hold_saves:
                self.finish_saves(node)
            if not this.hold_apply:
                self.apply(node)
            self.stream_snapshots(node)
        return busy

    def settle(self) -> Group:
        """Deliver and carry out until nothing is left. Messages into cut links are lost."""
        for _ in range(10_000):
            busy = [self.run_node(node) for node in self.up]
            messages, self.network = self.network, []
            if not messages and not any(busy):
                return self
            for message in messages:
                self.deliver(message)
        raise AssertionError("the group never settles")

    def post(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.sent.append(message)
            self.network.append(message)

    def deliver(self, message: Message) -> None:
        if self.connected(message.sender, message.receiver) and message.receiver in self.nodes:
            self[message.receiver].step(message)
            self[message.receiver].check()

    def connected(self, sender: int, receiver: int) -> bool:
        return (sender, receiver) not in self.cut_links and receiver not in self.down and sender not in self.down

    # What a test does to it

    def elect(self, node: int) -> Group:
        self[node].campaign()
        self.settle()
        assert self[node].role is RoleName.LEADER, f"{node} is a {self[node].role.value}"
        return self

    def tick(self, count: int = 1, *, nodes: Iterable[int] = ()) -> Group:
        """Let time pass on some nodes (all, if none are named); everything settles after each tick."""
        chosen = tuple(nodes) or tuple(self.up)
        for _ in range(count):
            for node in chosen:
                if node not in self.down:
                    self[node].tick()
            self.settle()
        return self

    def propose(self, node: int, *payloads: str) -> Group:
        self[node].propose([Proposal(payload.encode()) for payload in payloads])
        return self

    def cut(self, *pairs: tuple[int, int]) -> Group:
        """Cut links, each in the direction given."""
        self.cut_links.update(pairs)
        return self

    def isolate(self, *group: int) -> Group:
        """Cut `group` off from everybody else, both ways."""
        for inside in group:
            for outside in self.nodes:
                if outside not in group:
                    self.cut((inside, outside), (outside, inside))
        return self

    def heal(self) -> Group:
        self.cut_links.clear()
        return self

    def crash(self, node: int) -> Group:
        """Memory, unfinished saves and uncommitted state machine are lost."""
        self.down.add(node)
        return self

    def restart(self, node: int) -> Group:
        self.down.discard(node)
        self.nodes[node].start()
        return self

    def take(self, kind: type[Message]) -> list[Message]:
        """Carry every node's `Ready` out and pull the messages of one kind off the network."""
        for node in self.up:
            self.run_node(node)
        taken = [message for message in self.network if isinstance(message, kind)]
        self.network = [message for message in self.network if not isinstance(message, kind)]
        return taken


def cluster(
    count: int = 3,
    *,
    logs: Mapping[int, str] | None = None,
    term: int = 0,
    membership: Membership | None = None,
    spare: Iterable[int] = (),
    seed: int = 1,
    **limits: int,
) -> Group:
    """Nodes 1 .. count, all voters of each other unless `membership` says otherwise, all with an empty log unless `logs`
    says otherwise. `spare` nodes run with no membership at all, waiting to be added. `term`: everybody's at the start, at
    least.
    """
    base = SnapshotMeta(membership=membership or voters(*range(1, count + 1)))
    nodes = {}
    for node in (*range(1, count + 1), *spare):
        entries = parse_log((logs or {}).get(node, ""))
        last_term = entries[-1].term if entries else 0
        disk = Disk(SnapshotMeta() if node in spare else base, entries, HardState(max(term, last_term)))
        nodes[node] = Node(RaftConfig(node_id=node, **limits), disk, seed * 1000 + node)
    return Group(nodes)
