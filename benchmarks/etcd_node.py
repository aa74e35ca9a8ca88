"""etcd whose peers dial it at a gate: what `LocalCluster` starts where links between etcd's nodes are to be cut.

    python -m benchmarks.etcd_node n1=PORT,n2=PORT,n3=PORT FLAGS

The flags are those of a local cluster. Each node listens where they say, but advertises the port of its gate
(``raftkv.lab.gate``). The process becomes etcd and keeps its pid and its ``--name``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from raftkv.lab.ports import LOOPBACK


def behind_gates(flags: Sequence[str], gates: Mapping[str, str]) -> list[str]:
    """The flags with every advertised peer URL replaced."""
    changed = list(flags)
    name = changed[changed.index("--name") + 1]
    changed[changed.index("--initial-advertise-peer-urls") + 1] = f"http://{LOOPBACK}:{gates[name]}"
    changed[changed.index("--initial-cluster") + 1] = ",".join(
        f"{member}=http://{LOOPBACK}:{port}" for member, port in gates.items()
    )
    return changed


if __name__ == "__main__":
    ports = dict(item.split("=") for item in sys.argv[1].split(","))
    os.execvp("etcd", ["etcd", *behind_gates(sys.argv[2:], ports)])
