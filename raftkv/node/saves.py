"""Saves on their way to the log, and the promises that wait for them.

A message that promises something about our own disk (a vote, an acknowledgement) leaves when its save is durable, not before.
While a snapshot is being installed all saves wait: the log on disk may start anew behind a snapshot only once that is the
state. A crash in between leaves a state machine ahead of its log, which a restart understands, and never a log that begins
behind a gap.

What may not live here: Raft, files.
"""

from __future__ import annotations

from raftkv.node.events import Saved
from raftkv.node.inbox import Inbox
from raftkv.node.ports import LogPort, TransportPort
from raftkv.raft.messages import Message
from raftkv.raft.ready import Save
from raftkv.raft.types import SavedMark


class SaveQueue:
    """Hands saves to the log in order. Reports each as `Saved`."""

    def __init__(self, log_writer: LogPort, transport: TransportPort, inbox: Inbox) -> None:
        self._log_writer = log_writer
        self._transport = transport
        self._inbox = inbox
        self._messages: dict[int, tuple[Message, ...]] = {}
        self._held: list[tuple[Save, tuple[Message, ...]]] | None = None

    @property
    def is_holding(self) -> bool:
        """A snapshot is being installed."""
        return self._held is not None

    def save(self, save: Save, messages: tuple[Message, ...]) -> None:
        """Save, then send. In its turn, and not while saves are held."""
        if self._held is not None:
            self._held.append((save, messages))
            return
        if messages:
            self._messages[save.mark.sequence] = messages
        self._log_writer.save(save, lambda mark: self._inbox.post(Saved(mark)))

    def saved(self, mark: SavedMark) -> None:
        """A save is durable: its promises may leave."""
        messages = self._messages.pop(mark.sequence, ())
        if messages:
            self._transport.send(messages)

    def hold(self) -> None:
        assert self._held is None, "a snapshot arrived while another is being installed"
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for save, messages in held:
            self.save(save, messages)
