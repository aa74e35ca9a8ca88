from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.process import wait_until
from raftkv.lab.traffic import PREFIX, Traffic
from tests.lab.conftest import MakeCluster


@pytest.fixture
def one_node(make_cluster: MakeCluster) -> LocalCluster:
    cluster = make_cluster()
    cluster.start()
    return cluster


@pytest.fixture
def traffic(one_node: LocalCluster) -> Iterator[Traffic]:
    with Traffic([one_node.endpoint("n1")], writers=4, timeout_s=0.3) as traffic:
        yield traffic


def acknowledge(traffic: Traffic, count: int) -> None:
    already = traffic.counts.acknowledged
    assert wait_until(lambda: traffic.counts.acknowledged >= already + count, 20)


def test_what_was_acknowledged_is_read_back(traffic: Traffic) -> None:
    traffic.start()
    acknowledge(traffic, 50)
    traffic.stop()

    verdict = traffic.read_back()

    assert verdict.good
    assert verdict.acknowledged == traffic.counts.acknowledged >= 50


def test_a_lost_write_is_found(traffic: Traffic) -> None:
    """The negative control: a judge that cannot condemn proves nothing."""
    traffic.start()
    acknowledge(traffic, 20)
    traffic.stop()

    traffic.delete(f"{PREFIX}{7:09}")
    traffic.put(f"{PREFIX}{9:09}", "another value")
    verdict = traffic.read_back()

    assert not verdict.good
    assert verdict.lost == [f"{PREFIX}{7:09}", f"{PREFIX}{9:09}"]


def test_a_write_that_nobody_made_is_found(traffic: Traffic) -> None:
    traffic.put(f"{PREFIX}intruder", "x")

    assert traffic.read_back().intruders == [f"{PREFIX}intruder"]


def test_an_outage_is_a_gap_and_its_writes_are_unknown_or_refused(traffic: Traffic, one_node: LocalCluster) -> None:
    traffic.start()
    acknowledge(traffic, 20)
    moment = time.monotonic()

    one_node.pause("n1")
    assert wait_until(lambda: traffic.counts.unknown + traffic.counts.refused > 0, 10)
    assert traffic.longest_gap_s(moment) >= 0.25, "a gap that lasts counts"
    one_node.resume("n1")
    acknowledge(traffic, 20)
    traffic.stop()

    assert traffic.longest_gap_s(moment) >= 0.25
    assert traffic.read_back().good, "a write of unknown outcome is neither lost nor an intruder"


def test_rates_count_what_was_acknowledged_lately(traffic: Traffic) -> None:
    traffic.start()
    acknowledge(traffic, 30)
    traffic.stop()

    assert sum(traffic.rates(bins=100, bin_s=1.0)) == traffic.counts.acknowledged
    assert traffic.acknowledged_since(time.monotonic()) == 0
