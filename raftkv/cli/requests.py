"""Arguments of put, get and del to request messages, alike on the command line and in a transaction.

What may not live here: sending, printing, reading stdin. Pure functions of plain values.

Source: etcdctl 3.4's README; the texts of errors are etcdctl's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from raftkv.cli.exits import bad_arguments
from raftkv.pb.rpc_pb2 import DeleteRangeRequest, PutRequest, RangeRequest

FROM_KEY = b"\0"  # As range_end: every key from `key` on. As key: the first possible one.
ORDERS = {"": RangeRequest.NONE, "ASCEND": RangeRequest.ASCEND, "DESCEND": RangeRequest.DESCEND}
TARGETS = {
    "": RangeRequest.KEY,
    "CREATE": RangeRequest.CREATE,
    "KEY": RangeRequest.KEY,
    "MODIFY": RangeRequest.MOD,
    "VALUE": RangeRequest.VALUE,
    "VERSION": RangeRequest.VERSION,
}

PUT_NEEDS = "put command needs 1 argument and input from stdin or 2 arguments"
PUT_NEEDS_ONE = "put command needs only 1 argument when 'ignore-value' is set"
RANGE_NEEDS = "{} command needs one argument as key and an optional argument as range_end"
PREFIX_OR_FROM_KEY = "`--prefix` and `--from-key` cannot be set at the same time, choose one"
ONE_ARGUMENT = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys that begin with `prefix`; FROM_KEY where there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else FROM_KEY


def key_range(command: str, arguments: Sequence[str], *, prefix: bool, from_key: bool) -> tuple[bytes, bytes]:
    """`key` and `range_end` of a request; the latter empty for a single key.

    Raises:
        Failure: arguments are missing, too many, or contradict each other.
    """
    if not 1 <= len(arguments) <= 2:
        raise bad_arguments(RANGE_NEEDS.format(command))
    if prefix and from_key:
        raise bad_arguments(PREFIX_OR_FROM_KEY)
    if len(arguments) == 2 and (prefix or from_key):
        raise bad_arguments(ONE_ARGUMENT)
    key = os.fsencode(arguments[0])
    if (prefix or from_key) and not key:
        return FROM_KEY, FROM_KEY
    if prefix:
        return key, prefix_end(key)
    if from_key:
        return key, FROM_KEY
    return key, os.fsencode(arguments[1]) if len(arguments) == 2 else b""


def range_request(
    arguments: Sequence[str],
    *,
    prefix: bool = False,
    from_key: bool = False,
    limit: int = 0,
    order: str = "",
    sort_by: str = "",
    rev: int = 0,
    keys_only: bool = False,
    count_only: bool = False,
    consistency: str = "l",
) -> RangeRequest:
    """The request of `get`."""
    key, range_end = key_range("get", arguments, prefix=prefix, from_key=from_key)
    if keys_only and count_only:
        raise bad_arguments("`--keys-only` and `--count-only` cannot be set at the same time, choose one")
    sort_order, sort_target = ORDERS[order], TARGETS[sort_by]
    if sort_target == RangeRequest.KEY and sort_order == RangeRequest.ASCEND:
        sort_order = RangeRequest.NONE  # Keys come in this order anyway; asking for it would cost a sort.
    return RangeRequest(
        key=key,
        range_end=range_end,
        limit=limit,
        revision=rev,
        sort_order=sort_order,
        sort_target=sort_target,
        serializable=consistency == "s",
        keys_only=keys_only,
        count_only=count_only,
    )


def delete_request(
    arguments: Sequence[str], *, prefix: bool = False, from_key: bool = False, prev_kv: bool = False
) -> DeleteRangeRequest:
    """The request of `del`."""
    key, range_end = key_range("del", arguments, prefix=prefix, from_key=from_key)
    return DeleteRangeRequest(key=key, range_end=range_end, prev_kv=prev_kv)


def put_request(
    arguments: Sequence[str],
    *,
    stdin_value: bytes = b"",
    lease: int = 0,
    prev_kv: bool = False,
    ignore_value: bool = False,
    ignore_lease: bool = False,
) -> PutRequest:
    """The request of `put`.

    Args:
        arguments: key and value, or the key alone.
        stdin_value: the value where only a key is given and `ignore_value` is not; must not be empty then.
        lease: ID of a lease to attach; 0: none.
        prev_kv: answer with the pair as it was before.
        ignore_value: keep the current value.
        ignore_lease: keep the current lease.

    Raises:
        Failure: arguments are missing or too many.
    """
    if not arguments:
        raise bad_arguments(PUT_NEEDS)
    if ignore_value:
        if len(arguments) > 1:
            raise bad_arguments(PUT_NEEDS_ONE)
        value = b""
    elif len(arguments) > 2 or (len(arguments) == 1 and not stdin_value):
        raise bad_arguments(PUT_NEEDS)
    else:
        value = os.fsencode(arguments[1]) if len(arguments) == 2 else stdin_value
    return PutRequest(
        key=os.fsencode(arguments[0]),
        value=value,
        lease=lease,
        prev_kv=prev_kv,
        ignore_value=ignore_value,
        ignore_lease=ignore_lease,
    )
