"""wire: every value survives the trip, and nothing malformed gets in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv import wire
from raftkv.errors import PeerError
from raftkv.pb import peer_pb2
from raftkv.raft import messages as m
from raftkv.raft.types import Entry, EntryKind, Membership, Proposal, SnapshotMeta

ids = st.integers(1, 2**64 - 1)
counters = st.integers(0, wire.COUNTER_MAX)
contexts = st.integers(0, 2**64 - 1)


@st.composite
def memberships(draw: st.DrawFn, *, min_voters: int = 1) -> Membership:
    pool = draw(st.lists(ids, unique=True, min_size=min_voters, max_size=8))
    cut = draw(st.integers(min_voters, len(pool)))
    voters, others = pool[:cut], pool[cut:]
    if not voters:
        return Membership()
    outgoing = draw(st.sets(st.sampled_from(voters))) | draw(
        st.sets(st.sampled_from(others)) if others else st.just(set())
    )
    leaving = sorted(outgoing - set(voters))
    return Membership(
        voters=frozenset(voters),
        outgoing_voters=frozenset(outgoing),
        learners=frozenset(others) - outgoing,
        learners_next=frozenset(draw(st.sets(st.sampled_from(leaving))) if leaving else ()),
    )


@st.composite
def entries(draw: st.DrawFn, index: int | None = None, term: int | None = None) -> Entry:
    kind = draw(st.sampled_from(EntryKind))
    return Entry(
        index=draw(st.integers(1, wire.COUNTER_MAX)) if index is None else index,
        term=draw(st.integers(1, wire.COUNTER_MAX)) if term is None else term,
        kind=kind,
        data=draw(st.binary(max_size=64)),
        membership=draw(memberships()) if kind is EntryKind.MEMBERSHIP else None,
    )


@st.composite
def snapshots(draw: st.DrawFn) -> SnapshotMeta:
    return SnapshotMeta(
        index=draw(st.integers(1, wire.COUNTER_MAX)),
        term=draw(st.integers(1, 1000)),
        membership=draw(memberships()),
    )


@st.composite
def appends(draw: st.DrawFn) -> m.AppendRequest:
    terms = sorted(draw(st.lists(st.integers(1, 9), max_size=5)))
    prev_index = draw(st.integers(0, 2**62))
    prev_term = draw(st.integers(1, terms[0] if terms else 9)) if prev_index else 0
    return m.AppendRequest(
        sender=draw(ids),
        receiver=draw(ids),
        term=draw(st.integers(9, wire.COUNTER_MAX)),
        prev_index=prev_index,
        prev_term=prev_term,
        commit_index=draw(counters),
        entries=tuple(draw(entries(index=prev_index + 1 + i, term=term)) for i, term in enumerate(terms)),
        is_notice=not terms and draw(st.booleans()),
    )


def envelope(cls: Callable[..., Any], *, term_min: int = 1, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(cls, sender=ids, receiver=ids, term=st.integers(term_min, wire.COUNTER_MAX), **fields)


positions = st.one_of(st.just((0, 0)), st.tuples(st.integers(1, wire.COUNTER_MAX), st.integers(1, 1000)))


def candidates(cls: type[Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return positions.flatmap(
        lambda last: st.builds(
            cls,
            sender=ids,
            receiver=ids,
            term=st.integers(last[1] + 1, wire.COUNTER_MAX),
            last_index=st.just(last[0]),
            last_term=st.just(last[1]),
            **fields,
        )
    )


proposals = st.lists(st.builds(Proposal, data=st.binary(max_size=64)), min_size=1, max_size=4).map(tuple)

BY_CLASS: dict[type[Any], st.SearchStrategy[Any]] = {
    m.PreVoteRequest: candidates(m.PreVoteRequest),
    m.PreVoteResponse: envelope(m.PreVoteResponse, term_min=0, granted=st.booleans(), hears_leader=st.booleans()),
    m.VoteRequest: candidates(m.VoteRequest, leadership_transfer=st.booleans()),
    m.VoteResponse: envelope(m.VoteResponse, term_min=0, granted=st.booleans()),
    m.AppendRequest: appends(),
    m.AppendResponse: envelope(
        m.AppendResponse,
        term_min=0,
        prev_index=counters,
        accepted=st.booleans(),
        match_index=counters,
        conflict_index=counters,
        conflict_term=counters,
    ),
    m.HeartbeatRequest: envelope(m.HeartbeatRequest, commit_index=counters, read_round=contexts, unheard=st.booleans()),
    m.HeartbeatResponse: envelope(
        m.HeartbeatResponse, term_min=0, read_round=contexts, severity=st.integers(0, 2**32 - 1)
    ),
    m.InstallSnapshot: snapshots().flatmap(
        lambda meta: st.builds(
            m.InstallSnapshot, sender=ids, receiver=ids, term=st.integers(meta.term, 2000), snapshot=st.just(meta)
        )
    ),
    m.TimeoutNow: envelope(m.TimeoutNow),
    m.Resigned: envelope(m.Resigned),
    m.TransferLeadership: envelope(m.TransferLeadership, term_min=0, target=st.integers(0, 2**64 - 1)),
    m.ProposeRequest: envelope(m.ProposeRequest, term_min=0, proposals=proposals),
    m.ProposeRejected: envelope(m.ProposeRejected, term_min=0),
    m.ReadIndexRequest: envelope(m.ReadIndexRequest, term_min=0, context=contexts),
    m.ReadIndexResponse: envelope(
        m.ReadIndexResponse, term_min=0, context=contexts, index=counters, rejected=st.booleans()
    ),
}


def over_the_wire(pb: peer_pb2.Message) -> peer_pb2.Message:
    return peer_pb2.Message.FromString(pb.SerializeToString())


def test_every_message_class_is_covered_here() -> None:
    assert set(BY_CLASS) == set(get_args(m.Message))


def test_every_entry_kind_has_its_number_in_the_protocol() -> None:
    assert {kind.name: kind.value for kind in EntryKind} == dict(peer_pb2.Entry.Kind.items())


@pytest.mark.parametrize("cls", sorted(BY_CLASS, key=lambda cls: cls.__name__))
def test_a_message_survives_the_trip(cls: type[Any]) -> None:
    @settings(max_examples=60, deadline=None, database=None)
    @given(BY_CLASS[cls])
    def trip(message: m.Message) -> None:
        assert wire.decode_message(over_the_wire(wire.encode_message(message))) == message

    trip()


@settings(max_examples=100, deadline=None, database=None)
@given(entries())
def test_an_entry_survives_the_trip(entry: Entry) -> None:
    assert wire.decode_entry(wire.encode_entry(entry)) == entry


@settings(max_examples=100, deadline=None, database=None)
@given(memberships(min_voters=0))
def test_a_membership_survives_the_trip(membership: Membership) -> None:
    assert wire.decode_membership(wire.encode_membership(membership)) == membership


@settings(max_examples=100, deadline=None, database=None)
@given(snapshots())
def test_a_snapshot_meta_survives_the_trip(meta: SnapshotMeta) -> None:
    assert wire.decode_snapshot_meta(wire.encode_snapshot_meta(meta)) == meta


def test_a_snapshot_meta_of_nothing_survives_the_trip() -> None:
    assert wire.decode_snapshot_meta(wire.encode_snapshot_meta(SnapshotMeta())) == SnapshotMeta()


def test_equal_memberships_have_equal_bytes() -> None:
    ids_up, ids_down = list(range(1, 200)), list(range(199, 0, -1))

    assert wire.encode_membership(Membership(voters=frozenset(ids_up))) == wire.encode_membership(
        Membership(voters=frozenset(ids_down))
    )


@settings(max_examples=300, deadline=None, database=None)
@given(st.binary(max_size=80))
def test_random_bytes_are_a_value_error_or_a_valid_entry(data: bytes) -> None:
    try:
        entry = wire.decode_entry(data)
    except ValueError:
        return
    assert entry.index > 0
    assert entry.term > 0


@settings(max_examples=300, deadline=None, database=None)
@given(st.one_of(*BY_CLASS.values()), st.data())
def test_a_damaged_message_is_a_peer_error_or_a_valid_message(message: m.Message, data: st.DataObject) -> None:
    raw = bytearray(wire.encode_message(message).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    pb = peer_pb2.Message()
    try:
        pb.ParseFromString(bytes(raw))
    except Exception:  # protobuf's own refusal happens before ours
        return
    try:
        decoded = wire.decode_message(pb)
    except PeerError:
        return
    assert wire.decode_message(wire.encode_message(decoded)) == decoded


def append_pb(*, term: int = 5, prev: tuple[int, int] = (3, 2), log: str = "4@2 5@5") -> peer_pb2.Message:
    pb = peer_pb2.Message(sender=1, receiver=2, term=term)
    pb.append_request.prev_index, pb.append_request.prev_term = prev
    for text in log.split():
        index, entry_term = map(int, text.split("@"))
        pb.append_request.entries.add(index=index, term=entry_term)
    return pb


def snapshot_pb(**fields: Any) -> peer_pb2.Message:
    pb = peer_pb2.Message(sender=1, receiver=2, term=5)
    meta = pb.install_snapshot.snapshot
    meta.index, meta.term = fields.get("at", (7, 3))
    for name in ("voters", "outgoing_voters", "learners", "learners_next"):
        getattr(meta.membership, name).extend(fields.get(name, ()))
    return pb


def unknown_kind_pb() -> peer_pb2.Message:
    pb = append_pb(log="4@2")
    pb.append_request.entries[0].kind = 99
    return pb


def with_membership_pb(kind: int, voters: list[int] | None) -> peer_pb2.Message:
    pb = append_pb(log="4@2")
    pb.append_request.entries[0].kind = kind
    if voters is not None:
        pb.append_request.entries[0].membership.SetInParent()
        pb.append_request.entries[0].membership.voters.extend(voters)
    return pb


def proposals_pb(*kinds: int) -> peer_pb2.Message:
    pb = peer_pb2.Message(sender=1, receiver=2, term=5)
    pb.propose_request.SetInParent()
    for kind in kinds:
        pb.propose_request.proposals.add(kind=kind, data=b"x")
    return pb


def vote_pb(term: int, last_index: int, last_term: int) -> peer_pb2.Message:
    return peer_pb2.Message(
        sender=1, receiver=2, term=term, vote_request={"last_index": last_index, "last_term": last_term}
    )


def test_the_well_formed_versions_of_the_malformed_messages_pass() -> None:
    for pb in (append_pb(), snapshot_pb(voters=[1]), with_membership_pb(2, [1]), proposals_pb(1), vote_pb(5, 9, 4)):
        wire.decode_message(pb)


@pytest.mark.parametrize(
    ("pb", "says"),
    [
        pytest.param(peer_pb2.Message(sender=1, receiver=2, term=1), "no body", id="no body"),
        pytest.param(peer_pb2.Message(receiver=2, term=1, timeout_now={}), "must not be 0", id="no sender"),
        pytest.param(peer_pb2.Message(sender=2, term=1, timeout_now={}), "must not be 0", id="no receiver"),
        pytest.param(peer_pb2.Message(sender=1, receiver=2, timeout_now={}), "term 0", id="a leader of term 0"),
        pytest.param(
            peer_pb2.Message(sender=1, receiver=2, term=2**63, vote_response={}), "term 9223", id="term beyond 63 bits"
        ),
        pytest.param(
            peer_pb2.Message(sender=1, receiver=2, term=1, heartbeat_request={"commit_index": 2**64 - 1}),
            "commit_index",
            id="commit index beyond 63 bits",
        ),
        pytest.param(append_pb(log="5@2"), "follows 3@2", id="a gap after prev"),
        pytest.param(append_pb(log="3@2"), "follows 3@2", id="an entry at prev"),
        pytest.param(append_pb(log="4@2 6@2"), "follows 4@2", id="a gap between entries"),
        pytest.param(append_pb(log="4@1"), "follows 3@2", id="a term below prev's"),
        pytest.param(append_pb(log="4@4 5@3"), "follows 4@4", id="falling terms"),
        pytest.param(append_pb(log="4@6"), "newer than the message", id="an entry of a later term"),
        pytest.param(append_pb(prev=(3, 6), log=""), "newer than the message", id="prev of a later term"),
        pytest.param(append_pb(prev=(0, 1), log=""), "no place in a log", id="prev 0@1"),
        pytest.param(append_pb(prev=(1, 0), log=""), "no place in a log", id="prev 1@0"),
        pytest.param(append_pb(prev=(2**63, 1), log=""), "prev_index", id="prev beyond 63 bits"),
        pytest.param(append_pb(prev=(0, 0), log="0@1"), "index and term", id="entry 0"),
        pytest.param(append_pb(prev=(0, 0), log="1@0"), "index and term", id="entry of term 0"),
        pytest.param(unknown_kind_pb(), "entry kind 99 is unknown", id="unknown kind"),
        pytest.param(with_membership_pb(2, None), "without a membership", id="membership entry without one"),
        pytest.param(with_membership_pb(2, []), "without voters", id="membership entry without voters"),
        pytest.param(with_membership_pb(1, [1]), "with a membership", id="commands with a membership"),
        pytest.param(with_membership_pb(2, [1, 1]), "twice", id="a voter twice"),
        pytest.param(with_membership_pb(2, [0]), "member 0", id="voter 0"),
        pytest.param(snapshot_pb(voters=[1], at=(0, 0)), "of nothing", id="a snapshot of nothing"),
        pytest.param(snapshot_pb(voters=[1], at=(7, 6)), "newer than term", id="a snapshot of a later term"),
        pytest.param(snapshot_pb(), "no voters", id="a snapshot without voters"),
        pytest.param(snapshot_pb(voters=[1], learners=[1]), "voters too", id="a learner that votes"),
        pytest.param(snapshot_pb(voters=[1], learners_next=[2]), "not leaving", id="a stray learner to be"),
        pytest.param(snapshot_pb(learners=[1]), "without a voter", id="learners only"),
        pytest.param(
            peer_pb2.Message(sender=1, receiver=2, term=5, install_snapshot={}), "of nothing", id="no snapshot"
        ),
        pytest.param(proposals_pb(), "no proposals", id="no proposals"),
        pytest.param(proposals_pb(1, 2), "cannot be forwarded", id="a forwarded membership"),
        pytest.param(proposals_pb(0), "cannot be forwarded", id="a forwarded noop"),
        pytest.param(proposals_pb(7), "kind 7 is unknown", id="a proposal of an unknown kind"),
        pytest.param(vote_pb(4, 9, 4), "not below term", id="a candidate with entries of its new term"),
        pytest.param(vote_pb(4, 9, 0), "no place in a log", id="a candidate's impossible log"),
    ],
)
def test_a_malformed_message_is_refused(pb: peer_pb2.Message, says: str) -> None:
    with pytest.raises(PeerError, match=says):
        wire.decode_message(over_the_wire(pb))


def test_a_message_body_of_a_newer_version_is_refused() -> None:
    raw = peer_pb2.Message(sender=1, receiver=2, term=3).SerializeToString() + bytes(
        [(100 << 3 | 2) & 0x7F | 0x80, 6, 0]
    )

    with pytest.raises(PeerError, match="no body known"):
        wire.decode_message(peer_pb2.Message.FromString(raw))


def test_an_entry_of_a_newer_version_is_refused() -> None:
    with pytest.raises(ValueError, match="entry kind 3 is unknown"):
        wire.decode_entry(peer_pb2.Entry(index=1, term=1, kind=3).SerializeToString())


def test_no_message_field_is_forgotten() -> None:
    """Each dataclass field appears in the protobuf body under its name (or in the envelope)."""
    bodies = {
        field.name: {f.name for f in field.message_type.fields}
        for field in peer_pb2.Message.DESCRIPTOR.oneofs_by_name["body"].fields
    }
    for cls, strategy in BY_CLASS.items():
        assert strategy is not None
        body = "".join("_" + c.lower() if c.isupper() else c for c in cls.__name__).lstrip("_")
        assert bodies.pop(body) == {f.name for f in dataclasses.fields(cls)} - {"sender", "receiver", "term"}
    assert not bodies
