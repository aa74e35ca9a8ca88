"""inbox: nothing posted is lost, whoever posts it, and a burst costs one wake-up."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from raftkv.node.inbox import Inbox
from tests.support import eventually


class Reader:
    """Takes everything whenever it is woken."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.wake_ups = 0
        self.inbox = Inbox(asyncio.get_running_loop(), self._take_all)

    def _take_all(self) -> None:
        self.wake_ups += 1
        while (event := self.inbox.take()) is not None:
            self.taken.append(event)


async def test_a_burst_is_delivered_in_order_with_one_wake_up() -> None:
    reader = Reader()
    for number in range(100):
        reader.inbox.post(number)

    await eventually(lambda: reader.taken)

    assert reader.taken == list(range(100))
    assert reader.wake_ups == 1


async def test_nothing_is_handled_in_the_middle_of_what_posts_it() -> None:
    reader = Reader()
    reader.inbox.post("event")

    assert reader.taken == []


async def test_what_is_posted_while_events_are_handled_is_handled_too() -> None:
    taken: list[int] = []

    def take() -> None:
        while (event := inbox.take()) is not None:
            taken.append(event)
            if event < 3:
                inbox.post(event + 1)

    inbox = Inbox(asyncio.get_running_loop(), take)
    inbox.post(1)

    await eventually(lambda: taken == [1, 2, 3])


async def test_a_reader_that_leaves_events_finds_them_next_time() -> None:
    taken: list[int] = []

    def take_one() -> None:
        if (event := inbox.take()) is not None:
            taken.append(event)
            inbox.wake()

    inbox = Inbox(asyncio.get_running_loop(), take_one)
    inbox.post(1)
    inbox.post(2)

    await eventually(lambda: taken == [1, 2])


async def test_waking_needs_no_event_and_happens_once() -> None:
    reader = Reader()
    reader.inbox.wake()
    reader.inbox.wake()

    await eventually(lambda: reader.wake_ups)

    assert reader.wake_ups == 1


async def test_threads_that_post_at_once_lose_nothing_and_keep_their_order() -> None:
    reader = Reader()
    count, writers = 2_000, 4

    def post_all(writer: int) -> None:
        for number in range(count):
            reader.inbox.post((writer, number))

    threads = [threading.Thread(target=post_all, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    await eventually(lambda: len(reader.taken) == count * writers)
    for thread in threads:
        thread.join()

    for writer in range(writers):
        assert [number for who, number in reader.taken if who == writer] == list(range(count))
