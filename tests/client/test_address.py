from __future__ import annotations

import pytest

from raftkv.client.address import parse_endpoints
from raftkv.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("10.0.0.1:2379", ("10.0.0.1:2379",)),
        ("http://db.example:2379/", ("db.example:2379",)),
        ("a:1, b:2,http://c:3", ("a:1", "b:2", "c:3")),
        (["a:1", "b:2,c:3"], ("a:1", "b:2", "c:3")),
        (("a:1", "http://a:1"), ("a:1",)),
        ("[::1]:2379", ("[::1]:2379",)),
        ("http://[fe80::1]:02379", ("[fe80::1]:2379",)),
    ],
)
def test_endpoints_are_read_from_strings_urls_and_lists(given: str | list[str], parsed: tuple[str, ...]) -> None:
    assert parse_endpoints(given) == parsed


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "localhost",
        ":2379",
        "host:",
        "host:port",
        "host:0",
        "host:65536",
        "host:²",
        "::1:2379",
        "[]:2379",
        "a:1,",
        "a b:1",
        "user@host:1",
        "https://host:2379",
        "ftp://host:2379",
        "http://host:2379/path",
        [],
        [2379],
        ["a:1", None],
    ],
)
def test_a_bad_endpoint_is_named_in_one_line_with_what_is_allowed(bad: str | list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_endpoints(bad)

    assert "allowed: HOST:PORT" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_endpoints_the_environment_decides_and_then_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFTKV_ENDPOINTS", "a:1,b:2")
    assert parse_endpoints() == ("a:1", "b:2")

    monkeypatch.delenv("RAFTKV_ENDPOINTS")
    assert parse_endpoints() == ("127.0.0.1:2379",)
