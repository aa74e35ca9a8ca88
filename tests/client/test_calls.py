from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.client import calls
from raftkv.errors import ConfigError
from raftkv.pb import rpc_pb2


@given(prefix=st.binary(max_size=4), key=st.binary(min_size=1, max_size=6))
def test_a_prefix_range_holds_exactly_the_keys_with_that_prefix(prefix: bytes, key: bytes) -> None:
    start, end = calls.span(None, None, prefix)

    inside = key >= start and (end == b"\0" or key < end)

    # The empty prefix starts at the smallest key that etcd allows.
    assert inside == key.startswith(prefix)


def test_open_ends_reach_to_the_first_and_the_last_key() -> None:
    assert calls.span(None, None, None) == (b"\0", b"\0")
    assert calls.span("b", None, None) == (b"b", b"\0")
    assert calls.span(None, "b", None) == (b"\0", b"b")


def test_a_prefix_and_a_start_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="not both"):
        calls.range_request("a", prefix="b")


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(ConfigError, match=f"limit is {limit}"):
        calls.range_request(limit=limit)


def test_an_unknown_sort_names_the_ones_there_are() -> None:
    with pytest.raises(ConfigError, match="allowed: key, version, create_revision, mod_revision, value"):
        calls.range_request(sort="name")  # type: ignore[arg-type]


def test_delete_never_means_everything_by_accident() -> None:
    with pytest.raises(ConfigError, match="a key or a prefix"):
        calls.delete()

    everything = calls.delete_request(prefix="")
    assert (everything.key, everything.range_end) == (b"\0", b"\0")


def test_text_is_sent_as_utf8_and_nothing_else_is_guessed() -> None:
    assert rpc_pb2.PutRequest.FromString(calls.put("schlüssel", "wert").request).key == "schlüssel".encode()

    with pytest.raises(TypeError, match="a value is str or bytes, not int"):
        calls.put("k", 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a key is str or bytes, not NoneType"):
        calls.get(None)  # type: ignore[arg-type]
