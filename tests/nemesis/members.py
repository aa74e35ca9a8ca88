"""Members that go and others that come in their place, on the same ports: what may be done, and how it is made whole again.

A slot is a node of the cluster as the laboratory knows it: its name, its ports, its place on the links. Which member sits in it is
told by the peer URL. Nothing is remembered of what an attempt has come to; the member table says it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import raftkv
from raftkv.client import Member
from raftkv.errors import FailedPrecondition, RequestError
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.errors import LabError
from raftkv.storage import DataDir

CHANGE_S = 3.0
"""How long one change may take while things are broken."""
END_S = 15.0
"""How soon a removed node must have stopped by itself, once it can hear the others."""
WHOLE_S = 40.0
LOOK_AGAIN_S = 0.1


class Slots:
    """The members of one cluster of the laboratory."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self.away: set[str] = set()
        """Slots whose member was removed, perhaps: their process may end by itself, and is not to be started."""

    def replace(self, name: str, *, learner: bool = False) -> str:
        """Remove a member, and start another one in its slot with an empty data directory."""
        removed = self.remove(name)
        if name not in self.away or removed.startswith("could not"):
            return removed
        try:
            self._wait_until_ended(name, CHANGE_S)
            self._cluster.make_empty(name)
            self._add(name, learner=learner)
            self._cluster.start([name])
            if learner:
                self._until(lambda: self._promote(name), CHANGE_S, "the learner votes")
        except (RequestError, LabError) as error:
            return f"{removed}; could not put another one in its place: {_first_line(error)}"
        self.away.discard(name)
        return f"{removed}; put another one in its place{', first as a learner' if learner else ''}"

    def remove(self, name: str) -> str:
        """Remove a member; its process should end by itself."""
        if self.away - {name}:
            return f"{', '.join(self.away)} is away already"
        try:
            member = self._table(CHANGE_S).get(name)
            if member is None:
                return f"{name} is no member"
            self.away.add(name)
            with self._connect() as kv:
                kv.remove_member(member.id, timeout=CHANGE_S)
        except RequestError as error:
            return f"could not remove {name}: {error}"
        return f"removed {name}"

    def make_whole(self) -> None:
        """Every slot holds a voting member again. All nodes that are members run, and every link is open.

        Raises:
            LabError: that does not come about.
        """
        end = time.monotonic() + WHOLE_S
        what = "nothing was tried"
        while time.monotonic() < end:
            try:
                missing = [name for name in self._cluster.names if not self._is_whole(name)]
                if not missing:
                    self.away.clear()
                    return
                what = f"{missing} miss a voting member"
            except RequestError as error:
                what = str(error)
            threading.Event().wait(LOOK_AGAIN_S)
        raise LabError(f"the members are not whole again within {WHOLE_S:.0f} s: {what}")

    def _is_whole(self, name: str) -> bool:
        """Take the next step that this slot needs; True if it needs none."""
        member = self._table(CHANGE_S).get(name)
        if member is None:
            self._wait_until_ended(name, END_S)
            self._cluster.make_empty(name)
            self._add(name, learner=False)
            return False
        identity = DataDir.identity_in(self._cluster.data_path(name))
        if identity is None or identity.member_id != member.id:
            self._wait_until_ended(name, END_S)
            self._cluster.make_empty(name)
            self._cluster.start([name])
        elif self._cluster.pid(name) is None:
            self._cluster.start([name])
        if member.is_learner:
            return self._promote(name)
        return bool(member.name)

    def _wait_until_ended(self, name: str, within_s: float) -> None:
        """A node whose member was removed ends by itself. One that cannot know, because it hangs, is not waited for."""
        end = time.monotonic() + within_s
        while self._cluster.process_state(name) == "running":
            if time.monotonic() > end:
                raise LabError(f"{name} was removed from the cluster, and still runs after {within_s:.0f} s")
            threading.Event().wait(LOOK_AGAIN_S)

    def _add(self, name: str, *, learner: bool) -> None:
        url = self._cluster.peer_url(name)
        with self._connect() as kv:
            kv.add_member(url, learner=learner, timeout=CHANGE_S)

    def _promote(self, name: str) -> bool:
        member = self._table(CHANGE_S)[name]
        try:
            with self._connect() as kv:
                kv.promote_member(member.id, timeout=CHANGE_S)
        except FailedPrecondition:
            return False  # It has not caught up yet.
        return True

    def _table(self, timeout_s: float) -> dict[str, Member]:
        """Who sits in which slot, as of now."""
        with self._connect() as kv:
            members = kv.members(timeout=timeout_s)
        by_url = {url: member for member in members for url in member.peer_urls}
        slots = self._cluster.state.nodes
        return {name: by_url[node.peer_url] for name, node in slots.items() if node.peer_url in by_url}

    def id_of(self, name: str) -> int:
        """Raises RequestError; KeyError: nobody sits in that slot."""
        return self._table(CHANGE_S)[name].id

    def _connect(self) -> raftkv.Client:
        return raftkv.connect(",".join(self._cluster.endpoints.values()))

    def _until(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        end = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > end:
                raise LabError(f"{what}: not within {within_s:.0f} s")
            threading.Event().wait(LOOK_AGAIN_S)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
