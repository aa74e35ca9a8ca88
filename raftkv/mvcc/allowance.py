"""How much the commands of one log entry may look at and answer, whatever the store holds.

Every node applies every command, on the one thread that also answers reads, and applies it again after a restart: what takes
minutes there, or makes an answer that cannot be sent, stops all of them. A count of keys and bytes is the same on every node,
as a time would not be.

What may not live here: limits on a request by itself (`validate`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from raftkv.errors import ANSWER_TOO_LARGE, COMPARES_TOO_MUCH, InvalidArgument, Outcome, ResourceExhausted
from raftkv.mvcc.reading import SLICE_KEYS, Found, read_range, read_range_slices, select_slices
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2

KEYS_MAX = 2_000_000
"""Some seconds of work."""
BYTES_MAX = 64 * 1024 * 1024


class Allowance:
    """Keys to look at, deleted ones included, and bytes to answer. Once it is spent, nothing more is had from it."""

    def __init__(self, bytes_max: int | None = None) -> None:
        """`bytes_max`: other than `BYTES_MAX`."""
        self._keys = KEYS_MAX
        self._bytes = BYTES_MAX if bytes_max is None else bytes_max

    @property
    def is_spent(self) -> bool:
        return self._keys < 0 or self._bytes < 0

    def has_room(self, size: int) -> bool:
        """Whether so many bytes of an answer still fit; they count."""
        self._bytes -= size
        return not self.is_spent

    def read(self, store: Store, request: rpc_pb2.RangeRequest) -> bytes:
        """The serialized answer to a range; empty where it does not fit."""
        if not request.range_end:
            self._looked(1)
            answer = read_range(store, request)
            return answer if self.has_room(len(answer)) else b""
        pieces: list[bytes] = []
        for piece in read_range_slices(store, request, pin=False, looked=self._looked):
            if not self.has_room(len(piece)):
                return b""
            pieces.append(piece)
        return b"".join(pieces)

    def compared(self, store: Store, compare: rpc_pb2.Compare) -> Iterator[list[Found]]:
        """What a compare is about, in slices.

        Raises:
            InvalidArgument: too many keys have been looked at. Of the txn nothing has been done yet.
        """
        for found in select_slices(
            store, compare.key, compare.range_end, store.revision, SLICE_KEYS, looked=self._looked
        ):
            if self.is_spent:
                raise InvalidArgument(COMPARES_TOO_MUCH.format(keys=KEYS_MAX))
            yield found

    def check_answer(self) -> None:
        """Raises ResourceExhausted: the command was carried out, and there is no room for all of its answer."""
        if self.is_spent:
            raise ResourceExhausted(ANSWER_TOO_LARGE.format(size=BYTES_MAX >> 20), outcome=Outcome.UNKNOWN)

    def _looked(self, keys: int) -> None:
        self._keys -= keys


@dataclass(slots=True)
class Allowances:
    """Of the commands of one entry.

    Attributes:
        compares: of all of them, on every node: a txn whose compares exceed it is refused everywhere.
        kept: of the answers that all nodes make, to keep them.
        given: of those that one node alone makes, for who is waiting there.
    """

    compares: Allowance = field(default_factory=Allowance)
    kept: Allowance = field(default_factory=Allowance)
    given: Allowance = field(default_factory=Allowance)
