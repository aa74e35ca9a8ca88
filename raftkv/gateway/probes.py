"""What monitors ask: /health, /livez, /readyz, /version.

/health and /version are etcd 3.4's. /livez and /readyz are those of etcd 3.5.11 and later: named checks, each also at a path
of its own (`/readyz/serializable_read`); `?verbose` lists them, `?exclude=` leaves one out, an unknown name is no mistake.

A check asks the node what a client would ask it, through the handlers that clients have.

What may not live here: sockets, metrics.

Source: etcd 3.4 etcdhttp/metrics.go, etcd 3.6 etcdhttp/health.go.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from raftkv.errors import NO_LEADER, RequestError
from raftkv.gateway.rpc import ask
from raftkv.pb import rpc_pb2
from raftkv.server import Sources
from raftkv.version import ETCD_API_VERSION

HEALTH_TIMEOUT_S = 1.0
"""As by etcd 3.4, for /health. A monitor's own timeout is seldom longer."""
NOT_FOR_LEARNERS = "not supported for learner"
NOT_DECIDED = "not_decided"
PLAIN = "text/plain; charset=utf-8"

Check = Callable[[], Awaitable[None]]
"""Returns if all is well, and raises RequestError if not."""
STATUS_PATH = "/etcdserverpb.Maintenance/Status"
_ALARM = re.compile(r"\balarm:([A-Z]+)")


class Probes:
    """Answers of one node about itself."""

    def __init__(self, sources: Sources) -> None:
        self._node = sources.node
        self._handlers = sources.calls.uncounted
        self.health_successes = 0
        self.health_failures = 0
        self._checks: Mapping[str, Mapping[str, Check]] = {
            "/livez": {"serializable_read": self._serializable_read},
            "/readyz": {
                "data_corruption": self._data_corruption,
                "serializable_read": self._serializable_read,
                "linearizable_read": self._linearizable_read,
                "non_learner": self._non_learner,
            },
        }

    def paths(self) -> dict[str, Callable[[web.BaseRequest], Awaitable[web.Response]]]:
        """What answers a GET, by path."""
        found: dict[str, Callable[[web.BaseRequest], Awaitable[web.Response]]] = {
            "/health": self.health,
            "/version": self.version,
        }
        for root, checks in self._checks.items():
            found[root] = _checking(checks)
            for name, check in checks.items():
                found[f"{root}/{name}"] = _checking({name: check})
        return found

    async def version(self, _request: web.BaseRequest) -> web.Response:
        major, minor, _ = ETCD_API_VERSION.split(".")
        cluster = f"{major}.{minor}.0" if self._node.raft.leader else NOT_DECIDED
        text = f'{{"etcdserver":"{ETCD_API_VERSION}","etcdcluster":"{cluster}"}}'
        return web.Response(body=text.encode(), headers={"Content-Type": "application/json"})

    async def health(self, request: web.BaseRequest) -> web.Response:
        """Whether this node would serve a client; 503 if not. `?serializable=true`: from what it has itself.

        `?exclude=NOSPACE`: in spite of that alarm.
        """
        excluded = set(request.query.getall("exclude", ()))
        try:
            await self._check_health(excluded, serializable=request.query.get("serializable") == "true")
        except RequestError:
            self.health_failures += 1
            return _plain('{"health":"false"}\n', status=503)
        self.health_successes += 1
        return _plain('{"health":"true"}')

    async def _check_health(self, excluded: set[str], *, serializable: bool) -> None:
        for alarm in sorted(await self._alarms() - excluded):
            raise RequestError(f"alarm activated: {alarm}")
        if serializable:
            await self._serializable_read()
            return
        if not self._node.raft.leader:
            raise RequestError(NO_LEADER)
        await self._linearizable_read()

    async def _serializable_read(self) -> None:
        await self._node.read_local(lambda machine: machine.revision, timeout_s=HEALTH_TIMEOUT_S)

    async def _linearizable_read(self) -> None:
        await self._node.read(lambda machine: machine.revision, timeout_s=HEALTH_TIMEOUT_S)

    async def _data_corruption(self) -> None:
        if "CORRUPT" in await self._alarms():
            raise RequestError("alarm activated: CORRUPT")

    async def _alarms(self) -> set[str]:
        """The names of the alarms, as this node knows them: Status lists them, and asks nobody else."""
        raw = await ask(self._handlers, STATUS_PATH, rpc_pb2.StatusRequest(), timeout_s=HEALTH_TIMEOUT_S)
        errors = rpc_pb2.StatusResponse.FromString(raw).errors
        return {found[1] for error in errors if (found := _ALARM.search(error)) is not None}

    async def _non_learner(self) -> None:
        raft = self._node.raft
        if raft.node_id in raft.membership.learners:
            raise RequestError(NOT_FOR_LEARNERS)


def _checking(checks: Mapping[str, Check]) -> Callable[[web.BaseRequest], Awaitable[web.Response]]:
    async def answer(request: web.BaseRequest) -> web.Response:
        excluded = set(request.query.getall("exclude", ()))
        lines = []
        is_well = True
        for name, check in checks.items():
            if name in excluded and len(checks) > 1:
                continue
            try:
                await check()
                lines.append(f"[+]{name} ok\n")
            except RequestError as error:
                lines.append(f"[-]{name} failed: {error}\n")
                is_well = False
        report = "".join(lines)
        if not is_well:
            return _plain(report + "\n", status=503)
        return _plain((report if "verbose" in request.query else "") + "ok\n", nosniff=True)

    return answer


def _plain(text: str, *, status: int = 200, nosniff: bool = False) -> web.Response:
    """Go's `http.Error`, where it is one, tells browsers not to guess at the content."""
    headers = {"Content-Type": PLAIN}
    if nosniff or status != 200:
        headers["X-Content-Type-Options"] = "nosniff"
    return web.Response(body=text.encode(), status=status, headers=headers)
