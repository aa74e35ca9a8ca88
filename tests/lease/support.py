"""Leases in the log of a state machine."""

from __future__ import annotations

from raftkv.pb import rpc_pb2 as rpc
from raftkv.pb import store_pb2
from raftkv.statemachine import StateMachine
from tests.statemachine.support import apply, batch


def grant(lease: int, ttl_s: int = 10) -> store_pb2.Command:
    return store_pb2.Command(lease_grant=rpc.LeaseGrantRequest(ID=lease, TTL=ttl_s))


def renew(lease: int) -> store_pb2.Command:
    return store_pb2.Command(lease_renew=rpc.LeaseKeepAliveRequest(ID=lease))


def revoke(lease: int) -> store_pb2.Command:
    return store_pb2.Command(lease_revoke=rpc.LeaseRevokeRequest(ID=lease))


def advance(now_ms: int, *, term: int = 1) -> store_pb2.Command:
    return store_pb2.Command(clock_advance=store_pb2.ClockAdvance(term=term, now_ms=now_ms))


def pass_time(machine: StateMachine, now_ms: int, *, term: int = 1, entry_term: int = 1) -> None:
    """As a leader says it: nobody's batch."""
    entry = batch(machine.applied_index + 1, advance(now_ms, term=term), origin=0, incarnation=0, sequence=0)
    machine.apply([entry if entry_term == 1 else batch_of_term(entry, entry_term)])


def batch_of_term(entry, term: int):
    return type(entry)(entry.index, term, entry.kind, entry.data)


def ids(machine: StateMachine) -> list[int]:
    return [status.ID for status in machine.leases.list().leases]


def left(machine: StateMachine, lease: int) -> rpc.LeaseTimeToLiveResponse:
    return machine.leases.time_to_live(rpc.LeaseTimeToLiveRequest(ID=lease, keys=True))


def keys(machine: StateMachine, lease: int) -> list[bytes]:
    return list(left(machine, lease).keys)


def one(machine: StateMachine, command: store_pb2.Command):
    """Apply one command; its answer."""
    (answer,) = apply(machine, command)
    return answer
