"""When to ask again: after a while, later each time, sooner after a refusal."""

from __future__ import annotations

from raftkv.node.patience import Patience


def waits(patience: Patience, count: int) -> list[int]:
    """Ticks between the next `count` moments at which it is time to ask again."""
    found = []
    for _ in range(count):
        ticks = 1
        while not patience.tick():
            ticks += 1
        found.append(ticks)
    return found


def test_silence_is_waited_out_longer_each_time_up_to_a_bound() -> None:
    assert waits(Patience(100), 6) == [100, 200, 400, 800, 800, 800]


def test_whatever_moves_restores_the_usual_patience() -> None:
    patience = Patience(100)
    waits(patience, 3)

    patience.moved()

    assert waits(patience, 1) == [100]


def test_each_refusal_is_followed_by_a_longer_wait_up_to_the_usual_one() -> None:
    patience = Patience(10)
    found = []
    for _ in range(5):
        patience.refused()
        found += waits(patience, 1)

    assert found == [2, 4, 8, 10, 10]


def test_an_unanswered_question_after_a_refusal_is_given_the_usual_time() -> None:
    patience = Patience(100)
    patience.refused()

    assert waits(patience, 2) == [2, 100]
