"""lease.validate: which TTLs are granted."""

from __future__ import annotations

import pytest

from raftkv.errors import OutOfRange
from raftkv.lease.validate import TTL_MAX_S, granted_ttl_s, min_ttl_s


@pytest.mark.parametrize(
    ("election_timeout_ms", "heartbeat_interval_ms", "expected"),
    [(1000, 100, 2), (500, 50, 1), (5000, 100, 8), (10, 10, 1), (1500, 50, 3)],
)
def test_the_least_ttl_outlives_an_election(
    election_timeout_ms: int, heartbeat_interval_ms: int, expected: int
) -> None:
    found = min_ttl_s(election_timeout_ms=election_timeout_ms, heartbeat_interval_ms=heartbeat_interval_ms)

    assert found == expected


@pytest.mark.parametrize("ttl_s", [-(2**63), -1, 0, 1])
def test_too_little_is_raised(ttl_s: int) -> None:
    assert granted_ttl_s(ttl_s, min_s=2) == 2


def test_too_much_is_refused() -> None:
    assert granted_ttl_s(TTL_MAX_S, min_s=2) == TTL_MAX_S
    with pytest.raises(OutOfRange, match="too large lease TTL"):
        granted_ttl_s(TTL_MAX_S + 1, min_s=2)
