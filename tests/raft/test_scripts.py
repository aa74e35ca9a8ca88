"""Runs the traces in `scripts/`: one command a line, told from outside, `expect` checks what it says.

    cluster 3 term 2 learners 4 spare 5 limit election_timeout_ticks 20     (the first line)
    log 1: 1@1 2@2                                                           (before anything happens)
    campaign 1 | settle | tick 30 | tick 30 on 1 2 | propose 1: a b | read 1 7 | transfer 1 3
    change 1: 1 2 4 learners 5 | compact 1 5 | gone 1
    cut 1>2 | isolate 1 2 | heal | crash 1 | restart 1 | hold saves 1 | release saves 1 | commit machine 1
    refused propose 1: a | refused change 1: 1 2                             (the core raises)
    expect role|term|log|commit|applied|leader|voters|learners|first|state 1 2: what
    expect read 1 7: 5 | none | waiting

`voters` of a joint configuration are written `1 2 / 3 4`. `applied` lists payloads. `state` is the leader's view of its
followers: `1>2`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from raftkv.raft import MembershipChangeRefused, ProposalDropped
from tests.raft.cluster import Group, change, cluster, voters

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


class Script:
    """One run: the group is built at the first command that needs it."""

    def __init__(self) -> None:
        self.setup: dict[str, list[int]] = {}
        self.limits: dict[str, int] = {}
        self.logs: dict[int, str] = {}
        self._group: Group | None = None

    @property
    def group(self) -> Group:
        if self._group is None:
            count = self.setup["cluster"][0]
            learners = self.setup.get("learners", [])
            members = voters(*(n for n in range(1, count + 1) if n not in learners), learners=learners)
            self._group = cluster(
                count,
                logs=self.logs,
                term=self.setup.get("term", [0])[0],
                membership=members,
                spare=self.setup.get("spare", []),
                **self.limits,
            )
        return self._group

    def run(self, line: str) -> None:
        head, _, tail = line.partition(":")
        words = head.split()
        match words:
            case ["cluster", *rest]:
                self.prepare(["cluster", *rest])
            case ["log", node]:
                self.logs[int(node)] = tail.strip()
            case ["settle"]:
                self.group.settle()
            case ["tick", count]:
                self.group.tick(int(count))
            case ["tick", count, "on", *nodes]:
                self.group.tick(int(count), nodes=map(int, nodes))
            case ["refused", *rest]:
                with pytest.raises((ProposalDropped, MembershipChangeRefused)):
                    self.act(rest, tail)
            case ["expect", "read", node, context]:
                self.expect_read(int(node), int(context), tail.strip())
            case ["expect", what, *nodes]:
                for node in nodes:
                    assert self.look(what, node) == " ".join(tail.split()), f"{what} of {node}"
            case _:
                self.act(words, tail)

    def prepare(self, words: list[str]) -> None:
        name = ""
        while words:
            word, *words = words
            if word == "limit":
                self.limits[words[0]] = int(words[1])
                words = words[2:]
            elif word.isdigit():
                self.setup[name].append(int(word))
            else:
                name = word
                self.setup[name] = []

    def act(self, words: list[str], tail: str) -> None:
        group = self.group
        match words:
            case ["campaign", node]:
                group[int(node)].campaign()
            case ["propose", node]:
                group.propose(int(node), *tail.split())
            case ["read", node, context]:
                group[int(node)].read_index(int(context))
            case ["transfer", node, target]:
                group[int(node)].transfer_leadership(int(target))
            case ["change", node]:
                wanted, _, learners = tail.partition("learners")
                group[int(node)].propose_membership(change(*numbers(wanted), learners=numbers(learners)), b"")
            case ["compact", node, index]:
                group[int(node)].compact(int(index))
            case ["gone", node]:
                group[int(node)].leader_gone()
            case ["cut", *links]:
                group.cut(*((int(a), int(b)) for a, b in (link.split(">") for link in links)))
            case ["isolate", *nodes]:
                group.isolate(*map(int, nodes))
            case ["heal"]:
                group.heal()
            case ["crash", node]:
                group.crash(int(node))
            case ["restart", node]:
                group.restart(int(node))
            case ["hold", "saves", node]:
                group.nodes[int(node)].hold_saves = True
            case ["release", "saves", node]:
                group.nodes[int(node)].hold_saves = False
                group.finish_saves(int(node))
            case ["commit", "machine", node]:
                group.commit_machine(int(node))
            case _:
                raise ValueError(f"unknown command {words}")

    def look(self, what: str, node: str) -> str:
        group = self.group
        if what == "state":
            leader, follower = numbers(node.replace(">", " "))
            return group[leader].status().followers[follower].state.value
        raft = group[int(node)]
        match what:
            case "role":
                return raft.role.value
            case "log":
                return group.nodes[int(node)].log()
            case "applied":
                return " ".join(group.nodes[int(node)].commands())
            case "voters":
                halves = [raft.membership.voters, raft.membership.outgoing_voters]
                return " / ".join(" ".join(map(str, sorted(half))) for half in halves if half)
            case "learners":
                return " ".join(map(str, sorted(raft.membership.learners)))
            case "first":
                return str(raft.first_index)
            case "term" | "leader":
                return str(getattr(raft, what))
            case "commit":
                return str(raft.commit_index)
            case _:
                raise ValueError(f"cannot look at {what}")

    def expect_read(self, node: int, context: int, wanted: str) -> None:
        reads = self.group.nodes[node].reads
        answer = "waiting" if context not in reads else str(reads[context] or "none")
        assert answer == wanted, f"read {context} of {node}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    script = Script()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        command = line.partition("#")[0].strip()
        if command:
            try:
                script.run(command)
            except AssertionError as error:
                raise AssertionError(f"{path.name}:{number}: {line.strip()}\n{error}") from error


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 12
