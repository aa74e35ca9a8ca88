from __future__ import annotations

import pytest

from raftkv.client.transaction import OPERATIONS, KeyReference, TxnBuilder
from raftkv.errors import ConfigError
from raftkv.pb import rpc_pb2


def test_conditions_read_like_python() -> None:
    key = KeyReference("k")
    conditions = [
        key.value == "v",
        key.value != b"v",
        key.version < 3,
        key.mod_revision > 4,
        key.create_revision == 5,
        key.lease == 0,
        key.exists,
        key.missing,
    ]

    c = rpc_pb2.Compare
    assert [condition.compare for condition in conditions] == [
        c(key=b"k", target=c.VALUE, result=c.EQUAL, value=b"v"),
        c(key=b"k", target=c.VALUE, result=c.NOT_EQUAL, value=b"v"),
        c(key=b"k", target=c.VERSION, result=c.LESS, version=3),
        c(key=b"k", target=c.MOD, result=c.GREATER, mod_revision=4),
        c(key=b"k", target=c.CREATE, result=c.EQUAL, create_revision=5),
        c(key=b"k", target=c.LEASE, result=c.EQUAL, lease=0),
        c(key=b"k", target=c.VERSION, result=c.GREATER, version=0),
        c(key=b"k", target=c.VERSION, result=c.EQUAL, version=0),
    ]


def test_a_condition_has_no_truth_value_on_this_side() -> None:
    key = KeyReference("k")

    with pytest.raises(TypeError, match="compared by the server"):
        bool(key.version == 0 and key.lease == 0)


def test_a_condition_compares_like_with_like() -> None:
    with pytest.raises(TypeError, match="version is compared with an int"):
        _ = KeyReference("k").version == "1"
    with pytest.raises(TypeError, match="a value is str or bytes"):
        _ = KeyReference("k").value == 1


def test_when_then_and_otherwise_add_up() -> None:
    key, op = KeyReference("k"), OPERATIONS
    nested = TxnBuilder().then(op.delete("n"))

    builder = TxnBuilder().when(key.exists).when(key.version > 1).then(op.put("a", "1"), op.get("b"))
    builder.then(op.txn(nested)).otherwise(op.range(prefix="c", limit=2))

    request = builder.request
    assert len(request.compare) == 2
    assert [operation.WhichOneof("request") for operation in request.success] == [
        "request_put",
        "request_range",
        "request_txn",
    ]
    assert request.failure[0].request_range.limit == 2


def test_what_is_no_condition_or_operation_is_named() -> None:
    with pytest.raises(ConfigError, match=r"when\(\) takes conditions"):
        TxnBuilder().when(True)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a transaction takes operations"):
        TxnBuilder().then("put")  # type: ignore[arg-type]
