"""Random operations to a real etcd and to raftkv, for some seconds; and the comparison can fail."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from raftkv.pb import rpc_pb2
from tests.compat.differential.__main__ import summary
from tests.compat.differential.runs import Difference, Run, fresh_pair, random_run, same_steps
from tests.compat.differential.shrinking import shrink
from tests.compat.differential.steps import KV, WATCH, Step
from tests.compat.systems import has_etcd

SECONDS = 12.0

needs_etcd = pytest.mark.skipif(not has_etcd(), reason="etcd is not installed: nothing to compare with")


def put(key: bytes, value: bytes = b"") -> Step:
    return Step(KV, "Put", rpc_pb2.PutRequest(key=key, value=value))


def get(key: bytes) -> Step:
    return Step(KV, "Range", rpc_pb2.RangeRequest(key=key))


@needs_etcd
def test_random_operations_watches_and_leases_are_answered_as_etcd_answers_them(tmp_path: Path) -> None:
    seed, end = random.randrange(10**6), time.monotonic() + SECONDS

    run = random_run(tmp_path, seed=seed, wants_more=lambda sent: sent < 200 or time.monotonic() < end)
    if run.difference is not None:
        run = shrink(run, lambda steps: same_steps(tmp_path, steps), budget_s=60)

    assert run.difference is None, f"seed {seed}\n{summary(run)}"
    assert run.events > 0


@needs_etcd
def test_a_write_that_only_one_of_them_has_is_seen_in_answers_and_watches(tmp_path: Path) -> None:
    with fresh_pair(tmp_path) as (pair, _):
        watch = rpc_pb2.WatchCreateRequest(key=b"a", watch_id=7, prev_kv=True)
        for step in (put(b"a", b"1"), Step(WATCH, "Create", watch), put(b"a", b"2"), get(b"a")):
            assert pair.take(step) is None
        assert pair.end() is None

        pair.behind_its_back(put(b"a", b"x"))

        answer, watches = pair.take(get(b"a")), pair.take(put(b"b")) and pair.end()
    assert answer is not None
    assert 'value: "x"' in answer.text
    assert watches is not None


def test_a_difference_is_shrunk_to_the_steps_that_it_needs() -> None:
    """The steps that matter are two of a hundred: a put, and a read of its key long after."""
    steps = [put(b"%d" % number) for number in range(99)]

    def sent(steps: list[Step]) -> Run:
        run = Run(sent=list(steps))
        if put(b"40") in steps and steps[-1] == get(b"40"):
            run.difference = Difference(steps[-1], "differs")
        return run

    shrunk = shrink(sent([*steps, get(b"40")]), lambda steps: sent(list(steps)))

    assert shrunk.sent == [put(b"40"), get(b"40")]
