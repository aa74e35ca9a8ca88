"""What callers hold, and how messages read in a trace."""

from __future__ import annotations

from typing import Any

from raftkv.errors import LEADER_CHANGED, RaftkvError
from raftkv.raft import Message


class Call:
    """What a caller holds: the part of `asyncio.Future` that held proposals and reads use."""

    __slots__ = ("begun_at", "is_done", "outcome")

    def __init__(self, begun_at: int) -> None:
        self.begun_at = begun_at
        """The highest index that was committed anywhere when the call was made."""
        self.is_done = False
        self.outcome: Any = None

    def done(self) -> bool:
        return self.is_done

    def set_result(self, result: Any) -> None:
        assert not self.is_done, "answered twice"
        self.is_done, self.outcome = True, result

    def set_exception(self, error: RaftkvError) -> None:
        self.set_result(error)

    @property
    def is_done_for(self) -> bool:
        """It took effect: as the answer says, or a snapshot that has swallowed the answer."""
        return isinstance(self.outcome, list) or getattr(self.outcome, "message", "") == LEADER_CHANGED

    def give_up(self) -> None:
        self.is_done = True


def describe(message: Message) -> str:
    """One line, short enough to read many of."""
    fields = {name: getattr(message, name) for name in type(message).__slots__ if name not in ("sender", "receiver")}
    entries = fields.pop("entries", None)
    if "snapshot" in fields:
        fields["snapshot"] = f"{message.snapshot.index}@{message.snapshot.term}"  # type: ignore[union-attr]
    if "proposals" in fields:
        fields["proposals"] = len(fields["proposals"])
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    if entries:
        text += f" [{entries[0]}..{entries[-1]}]" if len(entries) > 1 else f" [{entries[0]}]"
    return f"n{message.sender} {type(message).__name__} {text}"
