"""Real nodes on damaged disks, in their cluster: what is in use is missed by name, the others go on, nothing is lost."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftkv.lab.cluster import LocalCluster
from raftkv.lab.traffic import Traffic
from tests.failover.load import nodes_agree, wait_until, write
from tests.storage_faults.damage import Damage
from tests.storage_faults.donor import FLAGS, MEMBER, copy_tree, fill
from tests.storage_faults.places import Place, places_of
from tests.storage_faults.small_serve import COMMAND
from tests.storage_faults.support import has_ended, last_word

REFUSED = ("identity", "peers", "log: middle", "LMDB leaf page", "LMDB large value")
"""Each is in use to its last bit, or nearly: see the bytes chosen."""
SERVED = ("flight record", "LMDB free page", "log: unused")


def stop_with(kind: str, cluster: LocalCluster, traffic: Traffic) -> list[Place]:
    """Stop the member when it has such places: a segment that has just been begun has no middle."""
    while True:
        cluster.stop(MEMBER)
        if places := [place for place in places_of(cluster.data_path(MEMBER)) if place.kind == kind]:
            return places
        cluster.start([MEMBER])
        write(traffic, 5)


def damage_of(place: Place, rng: random.Random) -> Damage:
    kind = place.kind
    if kind == "LMDB leaf page":
        return Damage(place, place.begin + 12, 3)  # How many records the page has.
    if kind == "LMDB large value":
        return Damage(place, place.begin + 100, 3)
    return Damage(place, rng.randrange(place.begin, place.end), rng.randrange(8))


def is_ready_or_ended(cluster: LocalCluster) -> bool:
    return has_ended(cluster, MEMBER) or "ready to serve" in "".join(cluster.log_tail(MEMBER, 40))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster.create(tmp_path / "cluster", proxy=False, command=COMMAND, flags=FLAGS, leashed=True)
    with cluster:
        cluster.up()
        yield cluster


def test_a_damaged_node_refuses_by_name_or_serves_what_it_should(cluster: LocalCluster, tmp_path: Path) -> None:
    rng = random.Random(11)
    fill(cluster, rng)
    with Traffic(list(cluster.endpoints.values()), writers=1, pause_s=0.02, timeout_s=5.0) as traffic:
        traffic.start()
        for kind in (*REFUSED, *SERVED):
            place = rng.choice(stop_with(kind, cluster, traffic))
            directory = cluster.data_path(MEMBER)
            copy_tree(directory, tmp_path / "healthy")
            damage = damage_of(place, rng)
            damage.inflict(directory)

            cluster.start([MEMBER], wait=False)

            if kind in REFUSED:
                said = last_word(cluster, MEMBER)
                assert re.search(rf"{re.escape(str(directory))}.* (damaged|cut|record|kind|version)", said), (
                    f"{damage}: {said}"
                )
                shutil.rmtree(directory)
                copy_tree(tmp_path / "healthy", directory)
                cluster.start([MEMBER])
            else:
                wait_until(lambda: is_ready_or_ended(cluster), "the node starts")
                assert not has_ended(cluster, MEMBER), (damage, cluster.log_tail(MEMBER))
            shutil.rmtree(tmp_path / "healthy")
            write(traffic, 5)
        traffic.stop()
        assert traffic.read_back().good
    nodes_agree(cluster)
