"""Another member in a node's place: what an operator does with `raftkv member replace` and a new machine, on local processes.

What may not live here: signals and files (`cluster.py`), and the rules of a change, which are the cluster's.
"""

from __future__ import annotations

import raftkv
from raftkv.errors import RequestError
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.errors import LabError

CHANGE_S = 10.0


def replace_member(cluster: LocalCluster, name: str) -> tuple[int, int]:
    """Remove the member that sits in a node's place, and start another one there, with an empty data directory.

    Returns:
        The ids of the old member and of the new one.

    Raises:
        LabError: there is no such node, the cluster refuses, or the new node does not start.
    """
    url = cluster.peer_url(name)
    try:
        with raftkv.connect(",".join(cluster.endpoints.values())) as kv:
            old = next((member for member in kv.members(timeout=CHANGE_S) if url in member.peer_urls), None)
            if old is None:
                raise LabError(f"no member of the cluster has {name}'s address {url}")
            kv.remove_member(old.id, timeout=CHANGE_S)
            cluster.make_empty(name)
            new = kv.add_member(url, timeout=CHANGE_S)
    except RequestError as error:
        raise LabError(f"{name} could not be replaced: {error}") from error
    cluster.start([name])
    return old.id, new.id
