"""The grammar of transactions."""

from __future__ import annotations

import pytest

from raftkv.cli.exits import Exit, Failure
from raftkv.cli.txn import parse_compare, parse_operation, read_txn, split_words
from raftkv.pb.rpc_pb2 import Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest


@pytest.mark.parametrize(
    ("line", "compare"),
    [
        ('mod("a") > "0"', Compare(target=Compare.MOD, result=Compare.GREATER, key=b"a", mod_revision=0)),
        ('m("a") = "-1" left over', Compare(target=Compare.MOD, result=Compare.EQUAL, key=b"a", mod_revision=-1)),
        ('create("a") < "7"', Compare(target=Compare.CREATE, result=Compare.LESS, key=b"a", create_revision=7)),
        ('c("a") != "7"', Compare(target=Compare.CREATE, result=Compare.NOT_EQUAL, key=b"a", create_revision=7)),
        ('ver("a b)") = "1"', Compare(target=Compare.VERSION, result=Compare.EQUAL, key=b"a b)", version=1)),
        ('version(`a`) = "1"', Compare(target=Compare.VERSION, result=Compare.EQUAL, key=b"a", version=1)),
        (r'val("a\x00") = "q\""', Compare(target=Compare.VALUE, result=Compare.EQUAL, key=b"a\0", value=b'q"')),
        ('value("a") = `raw`', Compare(target=Compare.VALUE, result=Compare.EQUAL, key=b"a", value=b"raw")),
        ('lease("a") = "ff"', Compare(target=Compare.LEASE, result=Compare.EQUAL, key=b"a", lease=255)),
    ],
)
def test_a_compare_is_read(line: str, compare: Compare) -> None:
    assert parse_compare(line) == compare


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bad", "malformed comparison: bad"),
        ('mod(a) > "0"', "malformed comparison"),
        ('mod("a")>"1"', "malformed comparison"),
        ('mod("a") > 1', "malformed comparison"),
        ('mod("a") ? "1"', "allowed: = != > <"),
        ('foo("a") > "0"', "unknown target foo"),
        ('mod("a") > "x"', 'invalid txn compare request: mod("a") > "x"'),
        ('mod("a") > "9223372036854775808"', "invalid txn compare request"),
        ('lease("a") > "0x1"', "invalid txn compare request"),
        (r'mod("\q") > "1"', "invalid txn compare request"),
    ],
)
def test_a_compare_that_cannot_be_read_is_refused_with_its_line(line: str, words: str) -> None:
    with pytest.raises(Failure) as refusal:
        parse_compare(line)
    assert words in refusal.value.message
    assert refusal.value.exit_code == Exit.INVALID_INPUT


@pytest.mark.parametrize(
    ("line", "operation"),
    [
        ('put a "x y"', RequestOp(request_put=PutRequest(key=b"a", value=b"x y"))),
        ("put 'it is' v --prev-kv", RequestOp(request_put=PutRequest(key=b"it is", value=b"v", prev_kv=True))),
        ("put a --ignore-value=true", RequestOp(request_put=PutRequest(key=b"a", ignore_value=True))),
        ("put k -- -v", RequestOp(request_put=PutRequest(key=b"k", value=b"-v"))),
        ("put k v --lease=ff", RequestOp(request_put=PutRequest(key=b"k", value=b"v", lease=255))),
        ("get a z --limit 3", RequestOp(request_range=RangeRequest(key=b"a", range_end=b"z", limit=3))),
        ("get a --prefix", RequestOp(request_range=RangeRequest(key=b"a", range_end=b"b"))),
        ("del a --from-key", RequestOp(request_delete_range=DeleteRangeRequest(key=b"a", range_end=b"\0"))),
        (r'put "\xff" "\n"', RequestOp(request_put=PutRequest(key=b"\xff", value=b"\n"))),
    ],
)
def test_a_request_is_read(line: str, operation: RequestOp) -> None:
    assert parse_operation(line) == operation


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("put", "invalid txn compare request: put"),
        ("foo a b", "invalid txn request: foo a b"),
        ("put a b --nope", "invalid txn request: put a b --nope"),
        ("get a --limit=x", "--limit"),
        ("get a -w json", "--write-out is not for one request"),
        ("get a --help", "invalid txn request"),
        ('put a "b c', "a quote is not closed"),
        ("put a 'b c", "a quote is not closed"),
        (r'put a "\q"', "invalid syntax"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_with_its_line(line: str, words: str) -> None:
    with pytest.raises(Failure) as refusal:
        parse_operation(line)
    assert words in refusal.value.message
    assert refusal.value.exit_code == Exit.INVALID_INPUT


def test_words_may_hold_quotes_inside() -> None:
    assert split_words("""put a"b x'y' it's""") == ["put", 'a"b', "x'y'", "it's"]


def test_a_transaction_is_three_parts_each_ended_by_an_empty_line() -> None:
    prompts: list[str] = []
    lines = ['mod("a") > "0"\n', "\n", "put a 1\n", "get a\n", "  \n", "del a\n", "\n", "never read\n"]

    request = read_txn(lines, prompt=prompts.append)

    assert request == TxnRequest(
        compare=[parse_compare('mod("a") > "0"')],
        success=[parse_operation("put a 1"), parse_operation("get a")],
        failure=[parse_operation("del a")],
    )
    assert prompts == ["compares:", "success requests (get, put, del):", "failure requests (get, put, del):"]


@pytest.mark.parametrize("lines", [[], ["\n"], ["\n", "put a 1\n"], ["\n", "put a 1\n", "\n"], ["\n", "\n", "del a"]])
def test_a_transaction_that_is_cut_off_is_not_sent(lines: list[str]) -> None:
    with pytest.raises(Failure, match=r"^EOF"):
        read_txn(lines)
