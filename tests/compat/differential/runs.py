"""Sends steps to both systems, one after the other, and stops at the first difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from raftkv.pb import rpc_pb2
from tests.compat.differential.comparing import comparable, has_ended
from tests.compat.differential.steps import LEASE, WATCH, Step, Steps, shortened
from tests.compat.differential.watches import BothWatch, WatchDiffers
from tests.compat.systems import running
from tests.server.grpc_api import CALL_S, Api, Failed

WATCHES_COMPARED_EVERY = 20


@dataclass(frozen=True)
class Difference:
    """What was not equal.

    Attributes:
        step: after, or in answer to, which step.
        text: both answers.
    """

    step: Step
    text: str


@dataclass
class Run:
    """What was sent, and how it went.

    Attributes:
        sent: all steps, in order; the last of them shows the difference, if there is one.
        left_out: what raftkv does not serve yet.
    """

    sent: list[Step] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    events: int = 0
    difference: Difference | None = None
    left_out: tuple[str, ...] = ()


class Pair:
    """etcd and raftkv, both empty at first."""

    def __init__(self, theirs: Api, ours: Api) -> None:
        self._theirs, self._ours = theirs, ours
        self._watches = BothWatch(theirs, ours)
        self._compacted = 0
        self.revision = 1
        self.run = Run()

    def close(self) -> None:
        self.run.events = self._watches.events_compared
        self._watches.close()

    def take(self, step: Step) -> Difference | None:
        """Send a step to both, and compare the answers; every so often, and before what watches must not miss, the watches."""
        self.run.sent.append(step)
        try:
            if step.is_compaction:
                self._watches.before_compaction(self.revision)
            elif len(self.run.sent) % WATCHES_COMPARED_EVERY == 0:
                self._watches.compare(self.revision)
            self.run.difference = self._watch(step) if step.service == WATCH else self._call(step)
        except WatchDiffers as error:
            self.run.difference = Difference(step, str(error))
        return self.run.difference

    def end(self) -> Difference | None:
        """Compare the watches a last time."""
        try:
            self._watches.compare(self.revision)
        except WatchDiffers as error:
            self.run.difference = Difference(self.run.sent[-1], str(error))
        return self.run.difference

    def behind_its_back(self, step: Step) -> None:
        """Send a step to raftkv alone: a comparison that does not see that is worth nothing."""
        send(self._ours, step)

    def _watch(self, step: Step) -> None:
        self.run.answers[f"Watch {step.name}"] += 1
        match step.request:
            case rpc_pb2.WatchCreateRequest():
                request = rpc_pb2.WatchCreateRequest()
                request.CopyFrom(step.request)
                self._watches.create(request, self._compacted)
            case rpc_pb2.WatchCancelRequest():
                self._watches.cancel(step.request, self.revision)

    def _call(self, step: Step) -> Difference | None:
        theirs, ours = (send(api, step) for api in (self._theirs, self._ours))
        self.run.answers[step.name if not isinstance(theirs, Failed) else f"{step.name} refused"] += 1
        if has_ended(theirs) or has_ended(ours) or comparable(step.request, theirs) != comparable(step.request, ours):
            return Difference(step, f"etcd:   {_shown(theirs)}\nraftkv: {_shown(ours)}")
        if not isinstance(theirs, Failed):
            self.revision = max(self.revision, theirs.header.revision)
            if isinstance(step.request, rpc_pb2.CompactionRequest):
                self._compacted = step.request.revision
        return None


def send(api: Api, step: Step) -> Any:
    if step.name != "LeaseKeepAlive":
        return api.call(step.service, step.name, step.request)
    rpc = api.channel.stream_stream(
        f"/{LEASE}/LeaseKeepAlive",
        request_serializer=rpc_pb2.LeaseKeepAliveRequest.SerializeToString,
        response_deserializer=rpc_pb2.LeaseKeepAliveResponse.FromString,
    )
    try:
        return next(rpc(iter([step.request]), timeout=CALL_S), Failed("OK", "no answer"))
    except grpc.RpcError as error:
        return Failed(error.code().name, str(error.details()))


def _shown(answer: Any) -> str:
    return shortened(str(answer))[:2_000]


# --- runs on servers of their own -------------------------------------------------------------------------------------


@contextmanager
def fresh_pair(directory: Path, *, nodes: int = 1) -> Iterator[tuple[Pair, bool]]:
    """Both systems, just started and empty; and whether raftkv has leases."""
    with running("etcd", directory, nodes=1) as etcd, running("raftkv", directory, nodes=nodes) as raftkv:
        theirs, ours = Api(etcd.endpoint), Api(raftkv.endpoint)
        pair = Pair(theirs, ours)
        try:
            answer = ours.call(LEASE, "LeaseLeases", rpc_pb2.LeaseLeasesRequest())
            yield pair, not (isinstance(answer, Failed) and answer.code == "UNIMPLEMENTED")
        finally:
            pair.close()
            theirs.close()
            ours.close()


def random_run(
    directory: Path,
    *,
    seed: int,
    wants_more: Callable[[int], bool],
    nodes: int = 1,
    tell: Callable[[int], None] | None = None,
) -> Run:
    """Random steps until there are enough, or a difference.

    Args:
        wants_more: is asked with the number of steps sent.
        tell: is told the number of steps sent.
    """
    with fresh_pair(directory, nodes=nodes) as (pair, has_leases):
        steps = Steps(seed, leases=has_leases)
        pair.run.left_out = () if has_leases else ("leases",)
        count = 0
        while wants_more(count):
            if pair.take(steps.next(pair.revision)) is not None:
                break
            count += 1
            if tell is not None:
                tell(count)
        else:
            pair.end()
    return pair.run


def same_steps(directory: Path, steps: Sequence[Step], *, nodes: int = 1) -> Run:
    """These steps once more."""
    with fresh_pair(directory, nodes=nodes) as (pair, _):
        for step in steps:
            if pair.take(step) is not None:
                break
        else:
            pair.end()
    return pair.run
