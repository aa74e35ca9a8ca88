"""The properties of Raft, checked from outside: by what nodes hand out, send, and have on their disks.

Nothing here trusts what a core says about itself where it can be seen otherwise. Each node has a `View`: its log as told by
the saves it handed out. The truth about commits is what was on a quorum's disks when a leader first counted it.

What may not live here: anything that changes a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from raftkv.raft import (
    AppendResponse,
    Entry,
    Membership,
    Message,
    Raft,
    Ready,
    RoleName,
    SnapshotMeta,
    VoteRequest,
    VoteResponse,
)

LEADER = RoleName.LEADER


class Violation(AssertionError):
    """A property does not hold. `name` says which one."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


def is_quorum(membership: Membership, has_it: Callable[[int], bool]) -> bool:
    """Written anew here: the core's own count is what is under test."""
    halves = [membership.voters, membership.outgoing_voters] if membership.outgoing_voters else [membership.voters]
    return all(2 * sum(map(has_it, half)) > len(half) for half in halves)


@dataclass(slots=True)
class View:
    """One life of a node, as seen from outside."""

    base: SnapshotMeta
    entries: list[Entry]
    configs: list[tuple[int, Membership]]
    term: int
    commit: int
    role: RoleName
    promised_term: int = 0
    promised_index: int = 0
    """The highest acknowledgement it sent in `promised_term`."""
    matches: dict[tuple[int, int, int], int] = field(default_factory=dict)
    """As leader of a term, with the configuration of an index: how far a member had come when last looked at."""

    @property
    def last_index(self) -> int:
        return self.base.index + len(self.entries)

    def term_at(self, index: int) -> int | None:
        position = index - self.base.index - 1
        if 0 <= position < len(self.entries):
            return self.entries[position].term
        return self.base.term if position == -1 else None

    def take(self, entries: Iterable[Entry]) -> None:
        """Entries replace everything from the first one's index on."""
        for count, entry in enumerate(entries):
            if count == 0:
                del self.entries[entry.index - self.base.index - 1 :]
                while self.configs[-1][0] >= entry.index:
                    self.configs.pop()
            self.entries.append(entry)
            if entry.membership is not None:
                self.configs.append((entry.index, entry.membership))

    def reset(self, base: SnapshotMeta) -> None:
        self.base, self.entries, self.configs = base, [], [(base.index, base.membership)]


@dataclass(slots=True)
class Committed:
    entry: Entry
    by_term: int
    """The term of the leader that counted it first."""


@dataclass(slots=True)
class Checkers:
    members: Mapping[int, Any]
    groups_saves: bool = False
    """Disks sync several saves at once, and only then does what depends on them leave: a disk may be further than the
    message of one of them knew."""
    committed: list[Committed] = field(default_factory=list)
    """Index 1 first."""
    leaders: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Of each term: node and incarnation."""
    votes: dict[tuple[int, int], int] = field(default_factory=dict)
    campaigns: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """Candidate and term to term and index of the last entry it vouched for."""
    names: dict[tuple[int, int], tuple[int | None, Entry]] = field(default_factory=dict)
    """(index, term) to the term of the entry before it, and the entry."""
    chains: dict[int, int] = field(default_factory=dict)
    effects: dict[tuple[int, int, int], int] = field(default_factory=dict)
    """Batches that took effect, and where."""
    terms_led: int = 0
    changes: int = 0
    reads: int = 0
    acknowledged: int = 0
    installs: int = 0

    @property
    def last_committed(self) -> int:
        return len(self.committed)

    # A node's life

    def started(self, member: Any, last: View | None) -> View:
        """A node comes up, from its disk and nothing else; `last` is what was seen of its life before."""
        raft, disk = member.raft, member.disk
        if raft.term < disk.hard_state.term:
            raise Violation("durable term", f"node {member.id} starts in {raft.term}, its disk says {disk.hard_state}")
        view = View(disk.base, [], [(disk.base.index, disk.base.membership)], raft.term, raft.commit_index, raft.role)
        view.take(disk.entries)
        if view.last_index != raft.last_index or view.term_at(view.last_index) != raft.term_at(raft.last_index):
            raise Violation("recovery", f"node {member.id}: log to {raft.last_index}, on disk to {view.last_index}")
        self._commit_is_known(member, raft, raft.commit_index)
        if last is not None:
            view.promised_term, view.promised_index = last.promised_term, last.promised_index
            if raft.term == last.promised_term and view.last_index < last.promised_index:
                raise Violation("promised entries stay", f"node {member.id}: {view.last_index}, {last.promised_index}")
        return view

    def ready(self, member: Any, ready: Ready) -> None:
        """What a node hands out, before anything of it is done."""
        save = ready.save
        if save is not None:
            if save.reset_to is not None:
                self._reset(member, save.reset_to)
            if save.entries:
                self._appended(member, save.entries)
        self.after(member)
        for entry in ready.committed:
            known = self.committed[entry.index - 1].entry if entry.index <= len(self.committed) else None
            if known is not entry and known != entry:
                raise Violation("state machine safety", f"node {member.id} is to apply {entry}, committed is {known}")

    def after(self, member: Any) -> None:
        """A node has taken one step, and handed out what came of it."""
        raft, view = member.raft, member.view
        term, role, commit = raft.term, raft.role, raft.commit_index
        if term < view.term:
            raise Violation("monotone term", f"node {member.id}: {term} after {view.term}")
        if commit < view.commit:
            raise Violation("monotone commit", f"node {member.id}: {commit} after {view.commit}")
        led = view.role is LEADER and view.term == term
        if role is LEADER and not led:
            self._elected(member, raft, term)
        if commit > view.commit:
            if role is LEADER or led:
                self._leader_commits(member, raft, commit)
            else:
                self._commit_is_known(member, raft, commit)
            view.commit = commit
        in_force = raft.membership
        if in_force is not view.configs[-1][1] and in_force != view.configs[-1][1]:
            raise Violation(
                "membership when appended", f"node {member.id}: {in_force}, its log says {view.configs[-1]}"
            )
        if (
            role is LEADER
            and len(view.configs) > 1
            and commit >= view.configs[-1][0]
            and not in_force.is_voter(member.id)
        ):
            raise Violation("leaders are voters", f"node {member.id} was removed at {view.configs[-1]} and leads on")
        view.term, view.role = term, role

    # Logs

    def _reset(self, member: Any, base: SnapshotMeta) -> None:
        view = member.view
        if member.raft.role is LEADER:
            raise Violation("leader append-only", f"leader {member.id} starts its log anew behind {base.index}")
        if base.index <= view.commit or self.committed[base.index - 1].entry.term != base.term:
            raise Violation("state machine safety", f"node {member.id}, commit {view.commit}, restores {base}")
        if member.raft.term == view.promised_term and base.index < view.promised_index:
            raise Violation("promised entries stay", f"node {member.id} restores {base.index}, {view.promised_index}")
        if view.term_at(base.index) == base.term:
            raise Violation("snapshots keep what matches", f"node {member.id} has {base.index}@{base.term} and resets")
        self.installs += 1
        view.reset(base)
        view.commit = base.index

    def _appended(self, member: Any, entries: tuple[Entry, ...]) -> None:
        view, raft = member.view, member.raft
        first, last = entries[0].index, entries[-1].index
        if first <= view.last_index:
            if raft.role is LEADER:
                raise Violation("leader append-only", f"leader {member.id} of term {raft.term} rewrites {first}")
            if first <= view.commit:
                raise Violation("committed entries stay", f"node {member.id} rewrites {first}, commit {view.commit}")
            if raft.term == view.promised_term and last < view.promised_index:
                raise Violation(
                    "promised entries stay", f"node {member.id} cuts {last + 1}..{view.promised_index} in {raft.term}"
                )
        previous = view.term_at(first - 1)
        for entry in entries:
            known = self.names.setdefault((entry.index, entry.term), (previous, entry))
            if known[1] is not entry and known[1] != entry:
                raise Violation("log matching", f"two entries are called {entry}")
            if previous != known[0] and previous is not None and known[0] is not None:
                raise Violation("log matching", f"{entry} follows term {known[0]} here, {previous} at node {member.id}")
            previous = entry.term
        if raft.role is LEADER:
            self._leader_extends(member, raft, entries)
        view.take(entries)

    def _leader_extends(self, member: Any, raft: Raft, entries: tuple[Entry, ...]) -> None:
        """The rules of membership changes (dissertation §4, and its correction of 2015)."""
        view = member.view
        for entry in entries:
            if entry.membership is None or entry.term != raft.term:
                continue
            self.changes += 1
            since, old = view.configs[-1]
            if since > raft.commit_index:
                raise Violation("one change at a time", f"{entry} at node {member.id} while {since} is not committed")
            if raft.term_at(raft.commit_index) != raft.term:
                raise Violation("change after own commit", f"{entry} at node {member.id}, commit {raft.commit_index}")
            if not old.is_joint and len(old.voters ^ entry.membership.voters) > 1 and not entry.membership.is_joint:
                raise Violation("joint consensus", f"{entry}: {old.voters} became {entry.membership.voters}")
            for node in old.learners & entry.membership.voters:
                if 10 * self.members[node].disk.last_index < 9 * view.last_index:
                    raise Violation(
                        "promoted when caught up", f"learner {node} of {view.last_index} entries lacks many"
                    )

    # Elections

    def _elected(self, member: Any, raft: Raft, term: int) -> None:
        me = (member.id, member.incarnation)
        if self.leaders.setdefault(term, me) != me:
            raise Violation("election safety", f"{self.leaders[term]} and {me} lead term {term}")
        self.terms_led += 1
        for index in range(len(self.committed), 0, -1):
            known = self.committed[index - 1]
            if known.by_term < term:
                self._has(raft, known.entry)
                return

    @staticmethod
    def _has(raft: Raft, entry: Entry) -> None:
        """By log matching, whoever has this one has all before it."""
        if entry.index >= raft.first_index and raft.term_at(entry.index) != entry.term:
            raise Violation("leader completeness", f"leader {raft.node_id} of term {raft.term} lacks {entry}")

    def sending(self, member: Any, message: Message) -> None:
        """A message is about to leave: what it promises must be on the sender's disk."""
        match message:
            case AppendResponse(accepted=True):
                self._acknowledges(member, message)
            case VoteResponse(granted=True):
                self._votes(member, message.term, message.receiver)
            case VoteRequest():
                self.campaigns[member.id, message.term] = (message.last_term, message.last_index)
                self._votes(member, message.term, member.id)
            case _:
                pass

    def _votes(self, member: Any, term: int, candidate: int) -> None:
        if self.votes.setdefault((member.id, term), candidate) != candidate:
            known = self.votes[member.id, term]
            raise Violation("one vote per term", f"node {member.id} votes for {candidate} in {term}, after {known}")
        durable = member.disk.hard_state
        if durable.term < term or (durable.term == term and durable.vote != candidate):
            raise Violation("durable before sent", f"node {member.id} votes for {candidate} in {term}, disk: {durable}")
        if not self.groups_saves:
            last = member.disk.last_index
            self._has_complete_log(member, candidate, self.campaigns[candidate, term], member.disk.term_at(last), last)

    @staticmethod
    def _has_complete_log(
        member: Any, candidate: int, theirs: tuple[int, int], last_term: int | None, last_index: int
    ) -> None:
        ours = (last_term or 0, last_index)
        if theirs < ours:
            raise Violation("votes for complete logs", f"node {member.id}, {ours}, votes for {candidate}, {theirs}")

    def voted(self, member: Any, request: VoteRequest) -> None:
        """A node has just decided to vote for who sent this. Its save, and more, will follow."""
        raft = member.raft
        theirs = (request.last_term, request.last_index)
        self._has_complete_log(member, request.sender, theirs, raft.term_at(raft.last_index), raft.last_index)

    def led(self, member: Any) -> None:
        """One input among several has been given to a node that led before it; what it committed, it committed as leader."""
        if member.raft.commit_index > member.view.commit:
            self._leader_commits(member, member.raft, member.raft.commit_index)
            member.view.commit = member.raft.commit_index

    def _acknowledges(self, member: Any, message: AppendResponse) -> None:
        view, disk, index = member.view, member.disk, message.match_index
        if self.groups_saves and disk.hard_state.term > message.term:
            return  # Of a term that is over: nobody counts it.
        if disk.last_index < index or disk.hard_state.term < message.term:
            raise Violation(
                "durable before sent",
                f"node {member.id} acknowledges {index}, disk: {disk.last_index}, {disk.hard_state}",
            )
        leader = self.members[message.receiver]
        if leader.is_up and leader.raft.role is LEADER and leader.raft.term == message.term:
            theirs, ours = leader.raft.term_at(index), disk.term_at(index)
            if theirs is not None and ours is not None and theirs != ours:
                raise Violation("true acknowledgements", f"node {member.id}: {index}@{ours}, leader: {index}@{theirs}")
        if view.promised_term != message.term:
            view.promised_term, view.promised_index = message.term, 0
        view.promised_index = max(view.promised_index, index)

    # Commits

    def _leader_commits(self, member: Any, raft: Raft, commit: int) -> None:
        view = member.view
        if commit > self.last_committed:
            if raft.term_at(commit) != raft.term:  # An input that commits does not end the term.
                raise Violation("commit by own term", f"leader {member.id} of {raft.term} commits {raft.entry(commit)}")
            self._is_on_quorum(member, raft, commit)
        for index in range(max(view.commit, self.last_committed) + 1, commit + 1):
            self.committed.append(Committed(raft.entry(index), raft.term))
        self._commit_is_known(member, raft, commit)
        newest = self.committed[commit - 1]
        for other in self.members.values():
            if other.is_up and other.raft.role is LEADER and other.raft.term > newest.by_term:
                self._has(other.raft, newest.entry)

    def _is_on_quorum(self, member: Any, raft: Raft, commit: int) -> None:
        """On a majority of disks, of the configuration by which this leader counts.

        One step may commit a joint configuration and go on counting by the one that ends it.
        """
        before, since = member.counted_by
        after = raft.membership
        if member.proposed_membership:
            before = after
        if self._are_on_disks(before, raft, commit):
            return
        leaves_joint = before.is_joint and after != before and self._are_on_disks(before, raft, since)
        if not leaves_joint or not self._are_on_disks(after, raft, commit):
            disks = {node: self.members[node].disk.last_index for node in before.members}
            raise Violation(
                "commits are durable", f"leader {member.id} of {raft.term} commits {commit}, disks: {disks}"
            )

    def _are_on_disks(self, membership: Membership, raft: Raft, index: int) -> bool:
        if index < raft.first_index:
            return True  # Compacted, so committed before.
        term = raft.term_at(index)
        assert term is not None
        return is_quorum(membership, lambda node: self.members[node].disk.holds(index, term))

    def _commit_is_known(self, member: Any, raft: Raft, commit: int) -> None:
        if commit > self.last_committed:
            raise Violation("state machine safety", f"node {member.id} commits {commit}, leaders {self.last_committed}")
        if commit and commit >= raft.first_index:
            known = self.committed[commit - 1].entry
            if raft.term_at(commit) != known.term:
                raise Violation("state machine safety", f"node {member.id} commits {raft.entry(commit)}, not {known}")

    def invariants(self, member: Any) -> None:
        """Every invariant of a core, entry by entry, and what a leader remembers: too slow for each step."""
        raft, view = member.raft, member.view
        raft.check()
        if raft.role is not LEADER:
            return
        for node, follower in raft.status().followers.items():
            key = (raft.term, view.configs[-1][0], node)
            before = view.matches.get(key, 0)
            if follower.match_index < before:
                raise Violation("monotone match", f"leader {member.id}: {node} at {follower.match_index}, was {before}")
            view.matches[key] = follower.match_index
            disk = self.members[node].disk
            term = raft.term_at(follower.match_index)
            if term is not None and disk.hard_state.term <= raft.term and not disk.holds(follower.match_index, term):
                raise Violation(
                    "true match", f"leader {member.id}: {node} at {follower.match_index}, {disk.last_index}"
                )

    # State machines and clients

    def state(self, index: int, chain: int) -> None:
        if self.chains.setdefault(index, chain) != chain:
            raise Violation("equal states", f"two state machines differ at {index}")

    def executed(self, origin: int, incarnation: int, sequence: int, entry: Entry) -> None:
        key = (origin, incarnation, sequence)
        if self.effects.setdefault(key, entry.index) != entry.index:
            raise Violation("at most once", f"batch {key} takes effect at {self.effects[key]} and {entry}")

    def read_done(self, member: Any, begun_at: int, index: int) -> None:
        """A read that began when `begun_at` was committed is answered from the state at `index`."""
        self.reads += 1
        if index < begun_at:
            raise Violation("linearizable reads", f"node {member.id} answers at {index} what began after {begun_at}")
