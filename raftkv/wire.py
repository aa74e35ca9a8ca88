"""The only translator between the core's values and protobuf bytes: entries, memberships, snapshots, messages, both ways.

This is the border. What comes in was sent by a stranger (a peer of another version, random bytes on the peer port) or read
from a disk, so every value is checked here, once: whatever a `decode_*` returns satisfies the invariants of
`raftkv.raft.types` and `raftkv.raft.messages`, and no assertion in the core can fail for the shape of a message. What a
message *claims* (a match index beyond the log) is for the core to doubt.

May not live here: I/O, framing, anything that knows why a message is sent.

    raft.messages.Message  ◄─ encode_message / decode_message ─►  pb.peer_pb2.Message     (peer streams)
    raft.types.Entry       ◄─ encode_entry / decode_entry ─────►  bytes of pb.peer_pb2.Entry    (WAL)
    raft.types.SnapshotMeta, Membership                     likewise
    errors.RequestError    ◄─ encode_error / decode_error ─────►  pb.store_pb2.Failure    (answers, also those that are kept)

Errors: `decode_message` raises `PeerError`; the others, which read what we wrote ourselves, raise `ValueError` and leave
the verdict to their caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError

from raftkv.errors import Code, Outcome, PeerError, RequestError, request_error
from raftkv.pb import peer_pb2, store_pb2
from raftkv.raft import messages as m
from raftkv.raft.types import Entry, EntryKind, Membership, NodeId, Proposal, SnapshotMeta

COUNTER_MAX: Final = 2**63 - 1
"""Indexes and terms end here, so that adding to one never leaves 64 bits. 292,000 years at a million entries a second."""


# --- values -----------------------------------------------------------------------------------------------------------


def encode_membership(membership: Membership) -> bytes:
    """Equal memberships give equal bytes."""
    return _membership_to_pb(peer_pb2.Membership(), membership).SerializeToString()


def decode_membership(data: bytes) -> Membership:
    """The inverse of `encode_membership`. An empty membership is legal here: a node that joins knows nobody.

    Raises:
        ValueError: not a membership, or one that breaks its invariants.
    """
    return _membership_from_pb(_parse(peer_pb2.Membership, data))


def encode_snapshot_meta(meta: SnapshotMeta) -> bytes:
    return _snapshot_meta_to_pb(peer_pb2.SnapshotMeta(), meta).SerializeToString()


def decode_snapshot_meta(data: bytes) -> SnapshotMeta:
    """The inverse of `encode_snapshot_meta`.

    Raises:
        ValueError: not a snapshot meta, or one that breaks its invariants.
    """
    return _snapshot_meta_from_pb(_parse(peer_pb2.SnapshotMeta, data))


def encode_entry(entry: Entry) -> bytes:
    head, data = encode_entry_parts(entry)
    return head + data


def encode_entry_parts(entry: Entry) -> tuple[bytes, bytes]:
    """The encoded entry in two pieces; the second is `entry.data` itself, so that joining them is the only copy of it.

    A protobuf message is the concatenation of its fields in any order: the payload may as well be the last.
    """
    pb = peer_pb2.Entry(index=entry.index, term=entry.term, kind=entry.kind.value)  # type: ignore[arg-type]
    if entry.membership is not None:
        _membership_to_pb(pb.membership, entry.membership)
    return pb.SerializeToString() + _DATA_TAG + _varint(len(entry.data)), entry.data


_DATA_TAG: Final = bytes([peer_pb2.Entry.DATA_FIELD_NUMBER << 3 | 2])


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode_entry(data: bytes) -> Entry:
    """The inverse of `encode_entry`.

    Raises:
        ValueError: not an entry, one that breaks its invariants, or of a kind this version does not know.
    """
    return _entry_from_pb(_parse(peer_pb2.Entry, data))


def encode_error(error: RequestError) -> store_pb2.Failure:
    outcome = store_pb2.Failure.NOT_APPLIED if error.outcome is Outcome.NOT_APPLIED else store_pb2.Failure.UNKNOWN
    return store_pb2.Failure(code=int(error.code or Code.UNKNOWN), message=error.message, outcome=outcome)


def decode_error(failure: store_pb2.Failure) -> RequestError:
    """The inverse of `encode_error`. An outcome that this version does not know is unknown."""
    outcome = Outcome.NOT_APPLIED if failure.outcome == store_pb2.Failure.NOT_APPLIED else Outcome.UNKNOWN
    return request_error(failure.code, failure.message, outcome=outcome)


def _parse(cls: Any, data: bytes) -> Any:
    try:
        return cls.FromString(data)
    except DecodeError as error:
        raise ValueError(f"{len(data)} bytes are not a {cls.DESCRIPTOR.name}: {error}") from error


def _membership_to_pb(pb: peer_pb2.Membership, membership: Membership) -> peer_pb2.Membership:
    pb.SetInParent()
    pb.voters.extend(sorted(membership.voters))
    pb.outgoing_voters.extend(sorted(membership.outgoing_voters))
    pb.learners.extend(sorted(membership.learners))
    pb.learners_next.extend(sorted(membership.learners_next))
    return pb


def _membership_from_pb(pb: peer_pb2.Membership) -> Membership:
    membership = Membership(
        voters=_node_set("voters", pb.voters),
        outgoing_voters=_node_set("outgoing voters", pb.outgoing_voters),
        learners=_node_set("learners", pb.learners),
        learners_next=_node_set("learners to be", pb.learners_next),
    )
    both = membership.learners & (membership.voters | membership.outgoing_voters)
    _require(not both, "learners {} are voters too", sorted(both))
    stray = membership.learners_next - (membership.outgoing_voters - membership.voters)
    _require(not stray, "learners to be {} are not leaving voters", sorted(stray))
    _require(bool(membership.voters) or not membership.members, "members {} without a voter", membership.members)
    return membership


def _node_set(what: str, ids: Iterable[NodeId]) -> frozenset[NodeId]:
    listed = list(ids)
    distinct = frozenset(listed)
    _require(len(distinct) == len(listed), "{} {} name a member twice", what, listed)
    _require(0 not in distinct, "{} {} name member 0", what, listed)
    return distinct


def _snapshot_meta_to_pb(pb: peer_pb2.SnapshotMeta, meta: SnapshotMeta) -> peer_pb2.SnapshotMeta:
    pb.SetInParent()
    pb.index = meta.index
    pb.term = meta.term
    _membership_to_pb(pb.membership, meta.membership)
    return pb


def _snapshot_meta_from_pb(pb: peer_pb2.SnapshotMeta) -> SnapshotMeta:
    _check_position("snapshot", pb.index, pb.term)
    return SnapshotMeta(index=pb.index, term=pb.term, membership=_membership_from_pb(pb.membership))


_KINDS: Final[dict[int, EntryKind]] = {kind.value: kind for kind in EntryKind}


def _kind(number: int) -> EntryKind:
    kind = _KINDS.get(number)
    if kind is None:
        raise ValueError(f"entry kind {number} is unknown to this version")
    return kind


def _entry_from_pb(pb: peer_pb2.Entry) -> Entry:
    index, term, kind = pb.index, pb.term, _kind(pb.kind)
    if not (0 < index <= COUNTER_MAX and 0 < term <= COUNTER_MAX):
        raise ValueError(f"entry {index}@{term}: index and term must be in 1 .. 2**63-1")
    has_membership = pb.HasField("membership")
    if has_membership != (kind is EntryKind.MEMBERSHIP):
        raise ValueError(
            f"entry {index}@{term} of kind {kind.name} {'with' if has_membership else 'without'} a membership"
        )
    if not has_membership:
        return Entry(index, term, kind, pb.data)
    membership = _membership_from_pb(pb.membership)
    _require(bool(membership.voters), "entry {}@{}: a membership without voters", index, term)
    return Entry(index, term, kind, pb.data, membership)


# --- messages ---------------------------------------------------------------------------------------------------------


def encode_message(message: m.Message) -> peer_pb2.Message:
    """A fresh protobuf message, ready to be put into a frame; a payload is copied once, into it."""
    pb = peer_pb2.Message(sender=message.sender, receiver=message.receiver, term=message.term)
    name, fields = _BODIES[type(message)]
    body: Any = getattr(pb, name)
    body.SetInParent()  # A body whose every field has its default value must still be seen.
    for field in fields:
        setattr(body, field, getattr(message, field))
    match message:
        case m.AppendRequest(entries=entries):
            for entry in entries:
                added = body.entries.add(index=entry.index, term=entry.term, kind=entry.kind.value, data=entry.data)
                if entry.membership is not None:
                    _membership_to_pb(added.membership, entry.membership)
        case m.ProposeRequest(proposals=proposals):
            for proposal in proposals:
                body.proposals.add(kind=proposal.kind.value, data=proposal.data)
        case m.InstallSnapshot(snapshot=snapshot):
            _snapshot_meta_to_pb(body.snapshot, snapshot)
        case _:
            pass
    return pb


def decode_message(pb: peer_pb2.Message) -> m.Message:
    """The inverse of `encode_message`, for bytes of unknown origin.

    Raises:
        PeerError: the message has no body we know, or a value that no correct peer sends. Nothing of it can be used;
            a peer that sends such a thing is of another version, or broken: close the stream.
    """
    try:
        return _message_from_pb(pb)
    except ValueError as error:
        name = pb.WhichOneof("body") or "message"
        raise PeerError(f"malformed {name} from member {pb.sender:x}: {error}") from error


def _message_from_pb(pb: peer_pb2.Message) -> m.Message:
    name = pb.WhichOneof("body")
    if name is None:
        raise ValueError("no body known to this version")
    cls, fields, check = _CLASSES[name]
    sender, receiver, term = pb.sender, pb.receiver, pb.term
    if not sender or not receiver:
        raise ValueError(f"sender {sender:x} and receiver {receiver:x} must not be 0")
    if not (0 < term <= COUNTER_MAX or (term == 0 and cls in _TERM_0_ALLOWED)):
        raise ValueError(f"term {term} is not in 1 .. 2**63-1")
    body = getattr(pb, name)
    values: dict[str, Any] = {field: getattr(body, field) for field in fields}
    for field in fields:
        if field in _COUNTERS and values[field] > COUNTER_MAX:
            raise ValueError(f"{field} {values[field]} is not in 0 .. 2**63-1")
    if cls is m.AppendRequest:
        values["entries"] = tuple(map(_entry_from_pb, body.entries))
    elif cls is m.ProposeRequest:
        values["proposals"] = tuple(Proposal(data=p.data, kind=_kind(p.kind)) for p in body.proposals)
    elif cls is m.InstallSnapshot:
        values["snapshot"] = _snapshot_meta_from_pb(body.snapshot)
    message: m.Message = cls(sender=sender, receiver=receiver, term=term, **values)
    if check is not None:
        check(message)
    return message


# --- rules ------------------------------------------------------------------------------------------------------------

_Check = Callable[[Any], None]


def _require(truth: bool, text: str, *values: object) -> None:
    if not truth:
        raise ValueError(text.format(*values))


def _check_position(what: str, index: int, term: int) -> None:
    """An index and the term of the entry there. Before the first entry both are 0; never one without the other."""
    if index > COUNTER_MAX or term > COUNTER_MAX or (index == 0) != (term == 0):
        raise ValueError(f"{what} {index}@{term} is no place in a log")


def _check_candidate(message: m.PreVoteRequest | m.VoteRequest) -> None:
    _check_position("last entry", message.last_index, message.last_term)
    # A candidate campaigns in a term of which its log cannot hold anything yet.
    _require(message.last_term < message.term, "last term {} is not below term {}", message.last_term, message.term)


def _check_append(message: m.AppendRequest) -> None:
    _check_position("previous entry", message.prev_index, message.prev_term)
    _require(not (message.is_notice and message.entries), "a notice with {} entries", len(message.entries))
    index, term = message.prev_index, message.prev_term
    for entry in message.entries:
        index += 1
        if entry.index != index or entry.term < term:
            raise ValueError(f"entry {entry} follows {index - 1}@{term}")
        term = entry.term
    _require(term <= message.term, "entry {}@{} is newer than the message's term {}", index, term, message.term)


def _check_install(message: m.InstallSnapshot) -> None:
    meta = message.snapshot
    _require(meta.index > 0, "a snapshot of nothing")
    _require(meta.term <= message.term, "snapshot {}@{} is newer than term {}", meta.index, meta.term, message.term)
    _require(bool(meta.membership.voters), "snapshot {}@{} has no voters", meta.index, meta.term)


def _check_proposals(message: m.ProposeRequest) -> None:
    _require(bool(message.proposals), "no proposals")
    for proposal in message.proposals:
        # Only a leader starts a term or changes the membership: nobody can ask for such an entry by forwarding it.
        _require(proposal.kind is EntryKind.COMMANDS, "a proposal of kind {} cannot be forwarded", proposal.kind.name)


# Class, name of the protobuf body, plain fields (equal names on both sides), check.
_TABLE: Final[tuple[tuple[type[Any], str, tuple[str, ...], _Check | None], ...]] = (
    (m.PreVoteRequest, "pre_vote_request", ("last_index", "last_term"), _check_candidate),
    (m.PreVoteResponse, "pre_vote_response", ("granted", "hears_leader"), None),
    (m.VoteRequest, "vote_request", ("last_index", "last_term", "leadership_transfer"), _check_candidate),
    (m.VoteResponse, "vote_response", ("granted",), None),
    (m.AppendRequest, "append_request", ("prev_index", "prev_term", "commit_index", "is_notice"), _check_append),
    (
        m.AppendResponse,
        "append_response",
        ("prev_index", "accepted", "match_index", "conflict_index", "conflict_term"),
        None,
    ),
    (m.HeartbeatRequest, "heartbeat_request", ("commit_index", "read_round", "unheard"), None),
    (m.HeartbeatResponse, "heartbeat_response", ("read_round", "severity"), None),
    (m.InstallSnapshot, "install_snapshot", (), _check_install),
    (m.TimeoutNow, "timeout_now", (), None),
    (m.Resigned, "resigned", (), None),
    (m.TransferLeadership, "transfer_leadership", ("target",), None),
    (m.ProposeRequest, "propose_request", (), _check_proposals),
    (m.ProposeRejected, "propose_rejected", (), None),
    (m.ReadIndexRequest, "read_index_request", ("context",), None),
    (m.ReadIndexResponse, "read_index_response", ("context", "index", "rejected"), None),
)
_BODIES: Final = {cls: (name, fields) for cls, name, fields, _ in _TABLE}
_CLASSES: Final = {name: (cls, fields, check) for cls, name, fields, check in _TABLE}

# A node that has never heard of a term answers with 0; only a leader or a candidate cannot.
_TERM_0_ALLOWED: Final = frozenset(
    {m.PreVoteResponse, m.VoteResponse, m.AppendResponse, m.HeartbeatResponse}
    | {m.TransferLeadership, m.ProposeRequest, m.ProposeRejected, m.ReadIndexRequest, m.ReadIndexResponse}
)
_COUNTERS: Final = frozenset(
    {
        "last_index",
        "last_term",
        "prev_index",
        "prev_term",
        "commit_index",
        "match_index",
        "conflict_index",
        "conflict_term",
    }
    | {"index"}
)
