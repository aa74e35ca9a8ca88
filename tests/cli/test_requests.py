"""Arguments become the request that etcdctl would send."""

from __future__ import annotations

import pytest

from raftkv.cli.exits import Exit, Failure
from raftkv.cli.requests import delete_request, prefix_end, put_request, range_request
from raftkv.pb.rpc_pb2 import DeleteRangeRequest, PutRequest, RangeRequest


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"a", b"b"), (b"a\xff", b"b"), (b"az", b"a{"), (b"\xff\xff", b"\0"), (b"", b"\0"), (b"\x00", b"\x01")],
)
def test_the_end_of_a_prefix_is_the_first_key_after_it(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end


def test_an_empty_prefix_is_every_key() -> None:
    assert range_request([""], prefix=True) == RangeRequest(key=b"\0", range_end=b"\0")
    assert range_request([""], from_key=True) == RangeRequest(key=b"\0", range_end=b"\0")
    assert delete_request([""], prefix=True) == DeleteRangeRequest(key=b"\0", range_end=b"\0")


def test_ranges_follow_the_flags() -> None:
    assert range_request(["a"]) == RangeRequest(key=b"a")
    assert range_request(["a", "c"]) == RangeRequest(key=b"a", range_end=b"c")
    assert range_request(["a"], prefix=True) == RangeRequest(key=b"a", range_end=b"b")
    assert range_request(["a"], from_key=True) == RangeRequest(key=b"a", range_end=b"\0")
    assert range_request(["a"], consistency="s", rev=3, limit=2) == RangeRequest(
        key=b"a", serializable=True, revision=3, limit=2
    )


def test_ascending_by_key_is_the_order_of_the_store_and_not_asked_for() -> None:
    assert range_request(["a"], order="ASCEND").sort_order == RangeRequest.NONE
    assert range_request(["a"], order="DESCEND").sort_order == RangeRequest.DESCEND
    by_value = range_request(["a"], order="ASCEND", sort_by="VALUE")
    assert (by_value.sort_order, by_value.sort_target) == (RangeRequest.ASCEND, RangeRequest.VALUE)


def test_bytes_of_the_command_line_arrive_unchanged() -> None:
    assert put_request(["\udcff", "é"]) == PutRequest(key=b"\xff", value="é".encode())


def test_a_put_takes_its_value_from_stdin_only_when_none_is_given() -> None:
    assert put_request(["a"], stdin_value=b"from stdin").value == b"from stdin"
    assert put_request(["a", "b"], stdin_value=b"from stdin").value == b"b"
    assert put_request(["a", ""]).value == b""
    assert put_request(["a"], ignore_value=True) == PutRequest(key=b"a", ignore_value=True)


@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b", "c"]])
def test_a_put_without_a_value_or_with_words_left_over_is_refused(arguments: list[str]) -> None:
    with pytest.raises(Failure, match="put command needs 1 argument and input from stdin or 2 arguments") as refusal:
        put_request(arguments)
    assert refusal.value.exit_code == Exit.BAD_ARGUMENTS


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"]])
def test_a_range_of_no_key_or_of_three_is_refused(arguments: list[str]) -> None:
    with pytest.raises(Failure, match=r"^get command needs one argument as key"):
        range_request(arguments)
    with pytest.raises(Failure, match=r"^del command needs one argument as key"):
        delete_request(arguments)


def test_contradicting_flags_are_refused() -> None:
    with pytest.raises(Failure, match="`--prefix` and `--from-key` cannot be set at the same time"):
        range_request(["a"], prefix=True, from_key=True)
    with pytest.raises(Failure, match="too many arguments"):
        range_request(["a", "b"], prefix=True)
    with pytest.raises(Failure, match="`--keys-only` and `--count-only`"):
        range_request(["a"], keys_only=True, count_only=True)
