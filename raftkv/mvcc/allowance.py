"""How much one command may look at and answer, whatever the store holds.

Every node applies every command, on the one thread that also answers reads, and applies it again after a restart: what takes
minutes there, or makes an answer that cannot be sent, stops all of them. A count of keys and bytes is the same on every node,
as a time would not be.

What may not live here: limits on a request by itself (`validate`).
"""

from __future__ import annotations

from raftkv.errors import ANSWER_TOO_LARGE, COMPARES_TOO_MUCH, InvalidArgument, Outcome, ResourceExhausted
from raftkv.mvcc.reading import SLICE_KEYS, read_range, read_range_slices
from raftkv.mvcc.store import Store
from raftkv.pb import rpc_pb2

KEYS_MAX = 2_000_000
"""Some seconds of work. Counted by slices: a range of a few keys counts as `SLICE_KEYS`."""
BYTES_MAX = 64 * 1024 * 1024


class Allowance:
    """Of one command. What has been spent is spent: nothing is answered after the first that did not fit."""

    def __init__(self) -> None:
        self._keys = KEYS_MAX
        self._bytes = BYTES_MAX

    @property
    def is_spent(self) -> bool:
        return self._keys < 0 or self._bytes < 0

    def spend(self, keys: int, size: int) -> bool:
        """Whether what took so many keys, and is so large, still fits."""
        self._keys -= keys
        self._bytes -= size
        return not self.is_spent

    def read(self, store: Store, request: rpc_pb2.RangeRequest) -> bytes:
        """The serialized answer to a range; empty where it does not fit."""
        if not request.range_end:
            answer = read_range(store, request)
            return answer if self.spend(1, len(answer)) else b""
        pieces: list[bytes] = []
        for piece in read_range_slices(store, request, pin=False):
            if not self.spend(SLICE_KEYS, len(piece)):
                return b""
            pieces.append(piece)
        return b"".join(pieces)

    def check_compares(self) -> None:
        """Raises InvalidArgument: the compares of a txn look at too many keys. Nothing has been changed yet."""
        if self.is_spent:
            raise InvalidArgument(COMPARES_TOO_MUCH.format(keys=KEYS_MAX))

    def check_answer(self) -> None:
        """Raises ResourceExhausted: the command was carried out, and there is no room for all of its answer."""
        if self.is_spent:
            raise ResourceExhausted(ANSWER_TOO_LARGE.format(size=BYTES_MAX >> 20), outcome=Outcome.UNKNOWN)
