"""A node that is about to close refuses batches, so that none is on its way to it when it does."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from raftkv.errors import Outcome, Unavailable
from raftkv.node import Node
from raftkv.pb import store_pb2
from raftkv.server.limits import Limits
from raftkv.server.store import SEND_AWAY_MAX_S, StoreService

NOBODY = cast(Node, None)  # A refused batch does not get that far.
LIMITS = Limits(request_bytes_max=1024, txn_ops_max=1, quota_bytes=1024)
EMPTY = store_pb2.BatchRequest().SerializeToString()


async def test_a_batch_that_is_sent_away_is_known_not_to_be_applied() -> None:
    store = StoreService(NOBODY, LIMITS)
    going = asyncio.create_task(store.send_away())
    await asyncio.sleep(0)

    with pytest.raises(Unavailable) as refused:
        await store.batch(EMPTY, 1.0)

    assert refused.value.outcome is Outcome.NOT_APPLIED
    await going


async def test_it_waits_for_clients_to_be_gone_but_not_for_ever() -> None:
    store = StoreService(NOBODY, LIMITS)
    began = time.monotonic()
    going = asyncio.create_task(store.send_away())

    async def stubborn_client() -> None:
        while not going.done():
            await asyncio.gather(_asks(store), return_exceptions=True)

    await asyncio.gather(going, stubborn_client())

    assert time.monotonic() - began >= SEND_AWAY_MAX_S


async def _asks(store: StoreService) -> Any:
    await asyncio.sleep(0.005)
    return await store.batch(EMPTY, 1.0)
