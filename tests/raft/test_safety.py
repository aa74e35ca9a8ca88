"""Random disasters on bare cores: loss, doubles, reordering, cuts, crashes that lose unsaved writes, membership changes,
transfers, snapshots. Checked from outside; then everything heals, and the cluster must make progress.

One seed, one run: a failure names its seed.
"""

from __future__ import annotations

import contextlib
import random

import pytest

from raftkv.raft import (
    Entry,
    MembershipChangeRefused,
    NotLeader,
    ProposalDropped,
    Ready,
    RoleName,
)
from tests.raft.cluster import Node, change, cluster, voters

SEEDS_PER_TEST = 20
STEPS = 400


class Witness:
    """The safety properties of the Raft paper's figure 3, watched over a whole run."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        self.entries: dict[tuple[int, int], tuple[int | None, Entry]] = {}
        self.committed: dict[int, Entry] = {}
        self.last_committed = 0
        self.terms: dict[int, int] = {}
        self.reads: dict[tuple[int, int], int] = {}
        self.reads_answered = 0

    def observe(self, node: Node, ready: Ready) -> None:
        raft = node.raft
        assert raft.term >= self.terms.get(raft.node_id, 0), "a term fell"
        self.terms[raft.node_id] = raft.term
        if ready.save is not None:
            for entry in ready.save.entries:
                self.log_matching(raft.term_at(entry.index - 1), entry)
        for entry in ready.committed:
            self.state_machine_safety(entry)
        if raft.role is RoleName.LEADER:
            self.leadership(node)
        for state in ready.read_states:
            if state.index is not None:
                needed = self.reads[(raft.node_id, state.context)]
                assert state.index >= needed, f"a read at {state.index} misses commits up to {needed}"
                self.reads_answered += 1

    def leadership(self, node: Node) -> None:
        raft = node.raft
        known = self.leaders.setdefault(raft.term, raft.node_id)
        assert known == raft.node_id, f"{known} and {raft.node_id} lead term {raft.term}"
        last = self.committed.get(self.last_committed)
        if last is not None and last.term < raft.term and last.index >= raft.first_index:
            assert raft.term_at(last.index) == last.term, f"the leader of term {raft.term} lacks {last}"

    def log_matching(self, previous_term: int | None, entry: Entry) -> None:
        known = self.entries.setdefault((entry.index, entry.term), (previous_term, entry))
        assert known[1] == entry, f"two entries are called {entry}"
        assert previous_term is None or known[0] is None or known[0] == previous_term, f"two logs lead to {entry}"

    def state_machine_safety(self, entry: Entry) -> None:
        known = self.committed.setdefault(entry.index, entry)
        assert known == entry, f"{known} and {entry} were both committed"
        self.last_committed = max(self.last_committed, entry.index)


class Disaster:
    """One run: draws its fault rates from the seed, then one event after the other."""

    def __init__(self, seed: int, *, membership_changes: bool) -> None:
        self.rng = rng = random.Random(seed)
        self.loss = rng.choice((0.0, 0.05, 0.3))
        self.double = rng.choice((0.0, 0.1, 0.5))
        self.change_rate = 0.02 if membership_changes else 0.0
        count = rng.choice((1, 2, 3, 3, 4, 5)) if not membership_changes else 3
        self.witness = Witness()
        limits = {
            "election_timeout_ticks": 10,
            "heartbeat_interval_ticks": 2,
            "append_bytes_max": rng.choice((50, 200, 1 << 20)),
            "inflight_appends_max": rng.choice((1, 3, 64)),
            "committed_bytes_max": rng.choice((50, 1 << 20)),
        }
        spare = (4, 5) if membership_changes else ()
        self.group = cluster(count, spare=spare, seed=seed, **limits)
        self.group.observe = self.witness.observe
        self.context = 0
        self.payload = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.event()
        self.recover()

    def event(self) -> None:
        group, rng = self.group, self.rng
        dice = rng.random()
        node = rng.choice(sorted(group.nodes))
        if node in group.down:
            if dice < 0.2:
                group.restart(node)
            return
        if dice < 0.35:
            self.deliver_some()
        elif dice < 0.65:
            group[node].tick()
        elif dice < 0.80:
            self.propose(node)
        elif dice < 0.85:
            self.read(node)
        elif dice < 0.85 + self.change_rate:
            self.change_membership(node)
        elif dice < 0.89:
            group[node].transfer_leadership(rng.choice([0, *sorted(group.nodes)]))
        elif dice < 0.91:
            group[node].compact(group[node].applied_index)
        elif dice < 0.93:
            group[node].peer_unreachable(rng.choice(sorted(group.nodes)))
        elif dice < 0.95:
            self.cut_or_heal()
        elif dice < 0.96:
            self.crash(node)
            return
        elif dice < 0.97:
            group.commit_machine(node)
        self.work(node)

    def work(self, node: int) -> None:
        group, rng = self.group, self.rng
        if group[node].has_ready() and rng.random() < 0.9:
            group.carry_out(node)
        if rng.random() < 0.6:
            group.finish_saves(node, rng.randrange(1, 4))
        if rng.random() < 0.6:
            group.apply(node)
            group.stream_snapshots(node)
        group[node].check()

    def deliver_some(self) -> None:
        group, rng = self.group, self.rng
        rng.shuffle(group.network)
        count = min(len(group.network), rng.randrange(1, 10))
        batch, group.network = group.network[:count], group.network[count:]
        for message in batch:
            if rng.random() < self.double:
                group.network.append(message)
            if rng.random() >= self.loss:
                group.deliver(message)

    def propose(self, node: int) -> None:
        self.payload += 1
        with contextlib.suppress(ProposalDropped):
            self.group.propose(node, f"v{self.payload}")

    def read(self, node: int) -> None:
        self.context += 1
        self.witness.reads[(node, self.context)] = max(self.group[n].commit_index for n in self.group.nodes)
        self.group[node].read_index(self.context)

    def change_membership(self, node: int) -> None:
        nodes = sorted(self.group.nodes)
        chosen = self.rng.sample(nodes, self.rng.randrange(1, len(nodes) + 1))
        learners = [n for n in nodes if n not in chosen and self.rng.random() < 0.5]
        with contextlib.suppress(MembershipChangeRefused, NotLeader):
            self.group[node].propose_membership(change(*chosen, learners=learners), b"")

    def cut_or_heal(self) -> None:
        nodes = sorted(self.group.nodes)
        if self.group.cut_links or len(nodes) == 1:
            self.group.heal()
        elif self.rng.random() < 0.5:
            self.group.isolate(self.rng.choice(nodes))
        else:
            self.group.cut(tuple(self.rng.sample(nodes, 2)))

    def crash(self, node: int) -> None:
        """Of the unfinished saves, a prefix may have reached the disk."""
        this = self.group.nodes[node]
        for save, _ in this.saves[: self.rng.randrange(0, len(this.saves) + 1)]:
            this.disk.write(save)
        self.witness.terms[node] = this.disk.hard_state.term
        self.group.crash(node)

    def recover(self) -> None:
        """Heal; a leader emerges, and a new write reaches every member."""
        group = self.group
        group.heal()
        for node in sorted(group.down):
            group.restart(node)
        group.settle()
        for node in group.nodes:
            group.finish_saves(node)
            group.apply(node)
            group.stream_snapshots(node)
        group.settle()
        for _ in range(600):
            if self.is_recovered():
                return
            group.tick()
            for node in group.up:
                if group[node].role is RoleName.LEADER and group[node].status().uncommitted_bytes == 0:
                    self.propose(node)
            group.settle()
        raise AssertionError("no progress after everything healed")

    def is_recovered(self) -> bool:
        group = self.group
        leaders = [group[node] for node in group.up if group[node].role is RoleName.LEADER]
        if not leaders or leaders[-1].membership.is_joint:
            return False
        last = self.witness.committed.get(self.witness.last_committed)
        return (
            last is not None
            and last.data == b"v%d" % self.payload
            and all(group[node].applied_index >= last.index for node in leaders[-1].membership.members)
        )


@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("membership_changes", [False, True], ids=["fixed", "changing"])
def test_no_disaster_breaks_safety_and_the_cluster_recovers(block: int, membership_changes: bool) -> None:
    for seed in range(block * SEEDS_PER_TEST, (block + 1) * SEEDS_PER_TEST):
        disaster = Disaster(seed, membership_changes=membership_changes)
        try:
            disaster.run(STEPS)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, membership_changes={membership_changes}: {error}") from error


def test_equal_seeds_give_equal_traces() -> None:
    traces = []
    for _ in range(2):
        disaster = Disaster(7, membership_changes=True)
        disaster.run(4 * STEPS)
        traces.append([repr(message) for message in disaster.group.sent])

    assert traces[0] == traces[1]
    assert len(traces[0]) > 100


def test_the_disasters_are_real() -> None:
    """A run that does nothing proves nothing."""
    elections = commits = reads = 0
    for seed in range(20):
        disaster = Disaster(seed, membership_changes=seed % 2 == 0)
        disaster.run(STEPS)
        elections += len(disaster.witness.leaders)
        commits += len(disaster.witness.committed)
        reads += disaster.witness.reads_answered

    assert elections > 30
    assert commits > 200
    assert reads > 10


def test_harness_starts_spare_nodes_without_a_membership() -> None:
    group = cluster(1, spare=(2,))

    assert group[1].membership == voters(1)
    assert not group[2].membership.voters
