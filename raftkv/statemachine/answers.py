"""One command of a batch: to the function that applies it, and to the answer its client gets."""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.errors import CorruptionError, RequestError
from raftkv.lease import commands as lease_commands
from raftkv.mvcc import commands
from raftkv.mvcc.allowance import Allowance
from raftkv.mvcc.reading import read_range
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2, store_pb2

Answer = (
    rpc_pb2.PutResponse
    | rpc_pb2.DeleteRangeResponse
    | rpc_pb2.TxnResponse
    | rpc_pb2.CompactionResponse
    | rpc_pb2.RangeResponse
    | rpc_pb2.MemberUpdateResponse
    | rpc_pb2.LeaseGrantResponse
    | rpc_pb2.LeaseRevokeResponse
    | rpc_pb2.LeaseKeepAliveResponse
    | store_pb2.OpenSessionResponse
    | rpc_pb2.AlarmResponse
    | RequestError
)
"""What a command came to. Of a header, `revision` alone is set. An error is an answer too: the same on every node."""


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """The answers to one batch, in the order of its commands.

    `physical_revision` is not 0 if the batch holds a compaction that asked for `physical`: the client expects its answer
    when `StateMachine.removed_revision` has reached that revision.
    """

    sequence: int
    answers: list[Answer]
    physical_revision: int = 0


def apply_command(
    store: Store,
    command: store_pb2.Command,
    operation: str | None,
    wanted: bool,
    entry_term: int,
    *,
    compares: Allowance,
    answers: Allowance,
) -> Answer | None:
    """Apply one command that concerns the store alone, of kind `operation`. None if no answer is wanted, perhaps.

    `compares` is what is left for the compares of txns, equal on all nodes; `answers` for answers, equal where they are kept.

    Raises:
        CorruptionError: a newer version's command; skipping it would let this node's state drift from the others'.
    """
    try:
        match operation:
            case "put":
                return commands.put(store, command.put, wanted=wanted)
            case "delete_range":
                return commands.delete_range(store, command.delete_range, wanted=wanted, answers=answers)
            case "txn":
                return commands.txn(store, command.txn, wanted=wanted, compares=compares, answers=answers)
            case "compaction":
                return commands.compact(store, command.compaction, wanted=wanted)
            case "range":
                return rpc_pb2.RangeResponse.FromString(read_range(store, command.range)) if wanted else None
            case "lease_renew":
                return lease_commands.renew(store, command.lease_renew)
            case "lease_grant":
                return lease_commands.grant(store, command.lease_grant)
            case "lease_revoke":
                return lease_commands.revoke(store, command.lease_revoke)
            case "clock_advance":
                lease_commands.advance(store, command.clock_advance, entry_term=entry_term)
                return None  # Nobody asked.
            case unknown:
                raise CorruptionError(f"a logged command is of kind {unknown}, which this raftkv does not know")
    except RequestError as error:
        return error.with_traceback(None)  # It would keep the store's frames alive.
