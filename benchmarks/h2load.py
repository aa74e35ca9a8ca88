"""Unary calls from h2load, the load generator in C of Debian's nghttp2-client: the cheapest load that a shared machine allows.

It sends one request again and again: a file with the five bytes that gRPC puts before a message, and the message. What it counts
is HTTP status, which is 200 for a refused call, too. So each run is checked afterwards: every put must have made a revision, and a
call of our own with the same bytes must have gRPC status 0.

What may not live here: clusters, printing.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import grpc

from benchmarks.load import VALUE_BYTES, Seen, latencies_ms
from benchmarks.stores import key_of
from raftkv.pb import rpc_pb2

OPERATIONS = ("put", "get", "get-serializable")
COMBINATIONS = ((1, 1), (64, 1), (64, 4), (100, 10))
_HEADERS = ("content-type: application/grpc", "te: trailers")
_GRACE_S = 60.0
_REQUESTS = re.compile(
    r"^requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, \d+ errored, \d+ timeout", re.M
)


class H2loadError(Exception):
    """h2load cannot be run, or what it counted as a success was none."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What h2load says at its end. What was in flight then is in neither count."""

    succeeded: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class H2load:
    """One run of it."""

    operation: str
    connections: int
    streams: int
    seconds: float
    warmup_s: float

    def run(self, endpoints: Sequence[str]) -> Seen:
        """Put the load on the first endpoint; or on several at once, the connections shared out.

        Raises:
            H2loadError: there is no h2load, it fails, or the server refuses such a call.
        """
        if shutil.which("h2load") is None:
            raise H2loadError("no h2load on the PATH (Debian: apt install nghttp2-client)")
        method, message = request_of(self.operation)
        self._probe(endpoints[0], method, message)
        warm, _, _ = self._load(endpoints, method, message, self.warmup_s) if self.warmup_s else ([], [], 0.0)
        counts, requests, cpu_s = self._load(endpoints, method, message, self.seconds)
        self._probe(endpoints[0], method, message)
        seen = self._seen(counts, requests, cpu_s)
        if self.operation == "put":
            seen.writes_in_all = sum(count.succeeded for count in [*warm, *counts]) + 2  # Ours, before and after.
            # What was in flight when h2load stopped, it does not count; of that, nobody knows what was done.
            seen.failed_in_all = 2 * self.connections * self.streams + sum(count.failed for count in [*warm, *counts])
        return seen

    def _load(
        self, endpoints: Sequence[str], method: str, message: bytes, seconds: float
    ) -> tuple[list[Counts], list[tuple[float, float]], float]:
        """What h2load counted, its log, and the CPU time it took."""
        used_before = os.times()
        with tempfile.TemporaryDirectory(prefix="raftkv-h2load-") as directory:
            body = Path(directory) / "body"
            body.write_bytes(framed(message))
            shares = [share for share in shares_of(self.connections, len(endpoints)) if share]
            logs = [Path(directory) / f"log{number}" for number in range(len(shares))]
            children: list[subprocess.Popen[str]] = []
            try:
                for endpoint, share, log in zip(endpoints, shares, logs, strict=False):
                    children.append(self._start(f"http://{endpoint}{method}", share, seconds, body, log))
                counts = [_ended(child, seconds + _GRACE_S) for child in children]
            finally:
                for child in children:
                    child.kill()
                    child.wait()
            requests = [request for log in logs for request in parse_log(log.read_text().splitlines())]
        used = os.times()
        cpu_s = used.children_user + used.children_system - used_before.children_user - used_before.children_system
        return counts, requests, cpu_s

    def _start(self, url: str, connections: int, seconds: float, body: Path, log: Path) -> subprocess.Popen[str]:
        headers = [word for header in _HEADERS for word in ("-H", header)]
        command = ["h2load", "-t", "1", "-c", str(connections), "-m", str(self.streams), "-d", str(body), *headers]
        command += ["-D", f"{round(seconds * 1000)}ms", f"--log-file={log}", url]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _seen(self, counts: Sequence[Counts], requests: Sequence[tuple[float, float]], cpu_s: float) -> Seen:
        ends = sorted(start + latency for start, latency in requests)
        failed = sum(count.failed for count in counts)
        seen = Seen(
            seconds=self.seconds,
            done=sum(count.succeeded for count in counts),
            errors={"not answered with HTTP status 200": failed} if failed else {},
            longest_gap_ms=max((later - earlier for earlier, later in pairwise(ends)), default=self.seconds) * 1000,
            load_cpu_s=cpu_s,
        )
        for name, value in latencies_ms([latency for _, latency in requests]).items():
            setattr(seen, name, value)
        return seen

    def _probe(self, endpoint: str, method: str, message: bytes) -> None:
        """One call of the same bytes by a client that looks at gRPC's status."""
        with grpc.insecure_channel(endpoint) as channel:
            try:
                channel.unary_unary(method, request_serializer=None, response_deserializer=None)(message, timeout=10.0)
            except grpc.RpcError as error:
                raise H2loadError(f"{method} is refused: {error.code().name}: {error.details()}") from None  # type: ignore[attr-defined]


def request_of(operation: str) -> tuple[str, bytes]:
    """GRPC method and message of an operation: always the same key."""
    match operation:
        case "put":
            put = rpc_pb2.PutRequest(key=key_of(0), value=os.urandom(VALUE_BYTES))
            return "/etcdserverpb.KV/Put", put.SerializeToString()
        case "get" | "get-serializable":
            read = rpc_pb2.RangeRequest(key=key_of(0), serializable=operation == "get-serializable")
            return "/etcdserverpb.KV/Range", read.SerializeToString()
    raise AssertionError(f"h2load does no {operation}")


def framed(message: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, its length in four bytes."""
    return struct.pack(">BI", 0, len(message)) + message


def shares_of(connections: int, endpoints: int) -> list[int]:
    """The connections of each endpoint."""
    return [connections // endpoints + (number < connections % endpoints) for number in range(endpoints)]


def parse_summary(text: str) -> Counts:
    """Read what h2load prints at its end.

    Raises:
        H2loadError: there is no such line.
    """
    found = _REQUESTS.search(text)
    if found is None:
        raise H2loadError(f"h2load did not end well: {' '.join(text.split())[-300:]}")
    return Counts(succeeded=int(found[1]), failed=int(found[2]))


def parse_log(lines: Iterable[str]) -> list[tuple[float, float]]:
    """Start and duration in seconds of every answered request, from h2load's log: microseconds, HTTP status, microseconds."""
    found = []
    for line in lines:
        start, status, duration = line.split("\t")
        if status == "200":
            found.append((int(start) / 1e6, int(duration) / 1e6))
    return found


def _ended(child: subprocess.Popen[str], seconds: float) -> Counts:
    try:
        text, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise H2loadError(f"h2load is still there after {seconds:g} s") from None
    return parse_summary(text)
