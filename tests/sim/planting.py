"""How a bug gets into a running core, and out of it again. The bugs themselves are in `bugs_*`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Planter = Callable[[Any, str, Any], None]
"""`plant(owner, name, value)`: what owner.name was is put back when the bug is pulled out."""


@dataclass(frozen=True, slots=True)
class KnownBug:
    number: int
    name: str
    plant: Callable[[Planter], None]
    tier: int
    """Of the simulator that catches it."""
    is_rare: bool
    """Many seeds do not show it: a hunt that has to begin anew takes hundreds of them."""
    seed: int
    """Where the hunt begins: with the seed that caught it last."""


BUGS: list[KnownBug] = []


def bug(
    number: int, *, seed: int = 0, tier: int = 1, is_rare: bool = False
) -> Callable[[Callable[[Planter], None]], Callable[[Planter], None]]:
    def register(plant: Callable[[Planter], None]) -> Callable[[Planter], None]:
        BUGS.append(KnownBug(number, plant.__name__, plant, tier, is_rare, seed))
        return plant

    return register


@contextmanager
def planted(known: KnownBug) -> Iterator[None]:
    """The bug is in this process until the block ends."""
    before: list[tuple[Any, str, Any]] = []

    def plant(owner: Any, name: str, value: Any) -> None:
        before.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, value)

    try:
        known.plant(plant)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


def nothing(*_: Any, **__: Any) -> None:
    return None
