"""The configuration of one node: what etcd's flags say, checked once, frozen.

What may not live here: reading flags or the environment (`raftkv.cli.serve` does), and anything that opens files or sockets.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from raftkv.errors import ConfigError
from raftkv.pb import rpc_pb2
from raftkv.raft.types import Membership, NodeId

DEFAULT_CLIENT_URL = "http://127.0.0.1:2379"
DEFAULT_PEER_URL = "http://127.0.0.1:2380"
DEFAULT_TOKEN = "raftkv-cluster"  # noqa: S105 - a cluster's name for itself, no secret
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f\\^`{|}\ud800-\udfff]")
"""What Go's url.Parse, and with it etcd, takes in no host; and what no UTF-8 holds."""
NOT_IN_NAMES = re.compile(r"%(?!25|[89a-f][0-9a-f])", re.IGNORECASE)
"""As the above, but for the zone of an IPv6 address."""
MEBIBYTE = 1024 * 1024


def parse_url(text: str, *, flag: str) -> str:
    """Check one URL of a flag and return it normalized, `http://host:port`.

    Raises:
        ConfigError: not a URL with a host and a port, or TLS, which raftkv does not speak yet.
    """
    text = text.strip()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{flag}: {text!r} is not a URL ({error}); expected http://host:port") from None
    if parts.scheme in ("https", "unixs"):
        raise ConfigError(f"{flag}: {text!r}: TLS is not supported yet; expected http://host:port")
    extras = parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password
    is_unreadable = NOT_IN_URLS.search(text) or ("[" not in text and NOT_IN_NAMES.search(text))
    if parts.scheme != "http" or not parts.hostname or port is None or extras or is_unreadable:
        raise ConfigError(f"{flag}: {text!r} is not of the form http://host:port")
    if port == 0:
        raise ConfigError(f"{flag}: {text!r}: a port from 1 to 65535 is needed; others must know where to dial")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"http://{host}:{port}"


def is_url(text: str) -> bool:
    """Whether this is a URL as `parse_url` returns them."""
    try:
        return parse_url(text, flag="URL") == text
    except ConfigError:
        return False


def are_urls(texts: Collection[str]) -> bool:
    """Whether these are some, and each `is_url`: what every node checks before it takes a member in, or dials one."""
    return bool(texts) and all(map(is_url, texts))


def parse_urls(text: str, *, flag: str) -> tuple[str, ...]:
    """Check a comma-separated list of URLs; at least one.

    Raises:
        ConfigError: as `parse_url`, or the list is empty.
    """
    urls = tuple(parse_url(part.strip(), flag=flag) for part in text.split(",") if part.strip())
    if not urls:
        raise ConfigError(f"{flag}: no URL given; expected http://host:port[,http://host:port...]")
    return urls


def parse_initial_cluster(text: str) -> dict[str, tuple[str, ...]]:
    """Parse `n1=http://host:2380,n2=http://host:2380`; a name may appear again with a further URL, as in etcd.

    Raises:
        ConfigError: an item is not NAME=URL, or two members share a URL.
    """
    members: dict[str, list[str]] = {}
    owner_of_url: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, url = item.partition("=")
        if not equals or not NAME_PATTERN.fullmatch(name):
            raise ConfigError(f"--initial-cluster: {item!r} is not of the form NAME=http://host:port")
        url = parse_url(url, flag="--initial-cluster")
        if url in owner_of_url:
            raise ConfigError(f"--initial-cluster: {name} and {owner_of_url[url]} share the URL {url}")
        owner_of_url[url] = name
        members.setdefault(name, []).append(url)
    if not members:
        raise ConfigError("--initial-cluster: no member given; expected NAME=http://host:port[,...]")
    return {name: tuple(urls) for name, urls in members.items()}


def address_of(url: str) -> str:
    """The `host:port` of a checked URL, as gRPC dials it."""
    return url.removeprefix("http://")


def member_id(peer_urls: tuple[str, ...], token: str) -> NodeId:
    """A member's id follows from its peer URLs and the cluster's token, as in etcd: every node computes the same ones."""
    digest = hashlib.sha1(("".join(sorted(peer_urls)) + token).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big") or 1


def cluster_id(members: list[NodeId]) -> int:
    packed = b"".join(node.to_bytes(8, "big") for node in sorted(members))
    return int.from_bytes(hashlib.sha1(packed, usedforsecurity=False).digest()[:8], "big") or 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """Everything a node is told at its start. Sizes are bytes, times milliseconds, as in etcd's flags.

    Raises:
        ConfigError: a value is out of range or contradicts another; one line that names the flag and what is allowed.
    """

    name: str = "default"
    data_dir: Path = Path("default.raftkv")
    listen_client_urls: tuple[str, ...] = (DEFAULT_CLIENT_URL,)
    advertise_client_urls: tuple[str, ...] = ()
    """What clients are told; the listen URLs where empty."""
    listen_client_http_urls: tuple[str, ...] = ()
    """Where the JSON gateway, health checks and metrics are served over HTTP/1; nowhere where empty."""
    listen_metrics_urls: tuple[str, ...] = ()
    """Where /metrics and /health alone are served; nowhere else than on the above where empty."""
    listen_peer_urls: tuple[str, ...] = (DEFAULT_PEER_URL,)
    initial_advertise_peer_urls: tuple[str, ...] = ()
    """What peers are told; the listen URLs where empty."""
    initial_cluster: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name to peer URLs; this node alone where empty."""
    initial_cluster_state: str = "new"
    """`new`: one of the first members; `existing`: a member that was added to a running cluster, and asks it who it is."""
    initial_cluster_token: str = DEFAULT_TOKEN
    heartbeat_interval_ms: int = 50
    election_timeout_ms: int = 300
    """Silence before a follower campaigns, in its turn. Stretched up to twofold by silences that turned out to be nothing, so
    that a node starved of CPU by a full load on two cores is not taken for a dead one."""
    snapshot_count: int = 10_000
    """Applied entries kept in the log for followers that lag; those further behind get a snapshot."""
    log_bytes_retained: int = 16 * MEBIBYTE
    """Bound on the same in bytes: the retained log is also held in memory."""
    quota_backend_bytes: int = 2 * 1024 * MEBIBYTE
    max_request_bytes: int = 3 * MEBIBYTE // 2
    max_txn_ops: int = 128
    max_watches_per_connection: int = 20_000
    """A node keeps about a kilobyte for each watch."""
    watch_progress_notify_interval_s: float = 600.0
    """How often a watch that asked for it, and has nothing to tell, says how far it is."""
    corrupt_check_time_s: float = 3600.0
    """How often the leader compares the members' data; 0: never. Each hashes its own for it, 2 s of a thread for a million keys:
    once an hour is not felt, and damage that nobody reads is found within the hour."""
    log_level: str = "info"
    watchdog_fsync_ms: int = 300
    """A log write that takes longer makes this node unfit to lead. 0 turns a watchdog off."""
    watchdog_apply_ms: int = 1_000
    """Entries wait to be applied for longer, and none is."""
    watchdog_loop_ms: int = 250
    """The event loop is held up so long, several times within ten seconds."""
    watchdog_disk_free_bytes: int = 64 * MEBIBYTE
    """Less is free on the data directory's file system."""
    watchdog_recovery_ms: int = 10_000
    """Nothing was wrong for so long: the node is fit again."""
    enable_drills: bool = False
    """Serve the Drill service, through which `raftkv drill` breaks this node for a while. Whoever reaches the client port can
    then do so too."""
    peer_dial: dict[str, str] = field(default_factory=dict)
    """Member name to `host:port`: dial that member there instead of at its peer URL (NAT, proxies, fault injection)."""

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(self.name):
            raise ConfigError(
                f"--name: {self.name!r}: 1 to 64 letters, digits, '.', '_' or '-', beginning with one of the former"
            )
        self._check_numbers()
        self._check_urls()
        self._check_members()

    def _check_numbers(self) -> None:
        _check_range("--heartbeat-interval", self.heartbeat_interval_ms, 10, 10_000, "ms")
        _check_range("--election-timeout", self.election_timeout_ms, 50, 50_000, "ms")
        if self.election_timeout_ms < 5 * self.heartbeat_interval_ms:
            raise ConfigError(
                f"--election-timeout: {self.election_timeout_ms} ms is below 5 times the --heartbeat-interval "
                f"of {self.heartbeat_interval_ms} ms"
            )
        for flag, value in (
            ("--watchdog-fsync", self.watchdog_fsync_ms),
            ("--watchdog-apply", self.watchdog_apply_ms),
            ("--watchdog-loop", self.watchdog_loop_ms),
            ("--watchdog-recovery", self.watchdog_recovery_ms),
        ):
            _check_range(flag, value, 0, 3_600_000, "ms")
        _check_range("--watchdog-disk-free", self.watchdog_disk_free_bytes, 0, 2**50, "bytes")
        _check_range("--snapshot-count", self.snapshot_count, 1, 10**9, "entries")
        _check_range("--quota-backend-bytes", self.quota_backend_bytes, MEBIBYTE, 2**40, "bytes")
        _check_range("--max-request-bytes", self.max_request_bytes, 1024, 64 * MEBIBYTE, "bytes")
        _check_range("--max-txn-ops", self.max_txn_ops, 1, 100_000, "operations")
        _check_range("--max-watches-per-connection", self.max_watches_per_connection, 1, 1_000_000, "watches")
        corrupt_check_ms = round(self.corrupt_check_time_s * 1000)
        _check_range("--corrupt-check-time", corrupt_check_ms, 0, 30 * 86_400_000, "ms")
        interval_ms = round(self.watch_progress_notify_interval_s * 1000)
        _check_range("--watch-progress-notify-interval", interval_ms, 100, 86_400_000, "ms")

    def _check_urls(self) -> None:
        flag_of_url: dict[str, str] = {}
        for flag, urls in (
            ("--listen-client-urls", self.listen_client_urls),
            ("--listen-peer-urls", self.listen_peer_urls),
            ("--listen-client-http-urls", self.listen_client_http_urls),
            ("--listen-metrics-urls", self.listen_metrics_urls),
        ):
            if not urls and flag in ("--listen-client-urls", "--listen-peer-urls"):
                raise ConfigError(f"{flag}: is empty; expected http://host:port[,http://host:port...]")
            for url in urls:
                if url in flag_of_url:
                    raise ConfigError(f"{flag}: {url} is taken by {flag_of_url[url]}; each needs a port of its own")
                flag_of_url[url] = flag

    def _check_members(self) -> None:
        if self.initial_cluster_state not in ("new", "existing"):
            raise ConfigError(f"--initial-cluster-state: {self.initial_cluster_state!r}; allowed are new, existing")
        if not self.initial_cluster_token:
            raise ConfigError("--initial-cluster-token: is empty; any text that tells this cluster from others will do")
        if self.initial_cluster and self.name not in self.initial_cluster:
            raise ConfigError(
                f"--initial-cluster: names {', '.join(sorted(self.initial_cluster))} but not this node, "
                f"--name {self.name}"
            )
        if self.initial_cluster and set(self.initial_cluster[self.name]) != set(self.peer_urls):
            raise ConfigError(
                f"--initial-cluster: has {self.name} at {','.join(self.initial_cluster[self.name])}, "
                f"but --initial-advertise-peer-urls says {','.join(self.peer_urls)}"
            )
        unknown = sorted(set(self.peer_dial) - set(self.initial_cluster))
        if unknown:
            raise ConfigError(
                f"--peer-dial: {unknown[0]!r} is no member; --initial-cluster names {', '.join(self.members_by_name)}"
            )

    @property
    def peer_urls(self) -> tuple[str, ...]:
        return self.initial_advertise_peer_urls or self.listen_peer_urls

    @property
    def client_urls(self) -> tuple[str, ...]:
        return self.advertise_client_urls or self.listen_client_urls

    @property
    def members_by_name(self) -> dict[str, tuple[str, ...]]:
        return self.initial_cluster or {self.name: self.peer_urls}

    @property
    def member_id(self) -> NodeId:
        return member_id(self.members_by_name[self.name], self.initial_cluster_token)

    @property
    def cluster_id(self) -> int:
        return cluster_id([member_id(urls, self.initial_cluster_token) for urls in self.members_by_name.values()])

    def initial_members(self) -> list[rpc_pb2.Member]:
        """The member table at log index 0, in ascending order of ids: the same on every node that starts the cluster."""
        members = [
            rpc_pb2.Member(ID=member_id(urls, self.initial_cluster_token), name=name, peerURLs=urls)
            for name, urls in self.members_by_name.items()
        ]
        return sorted(members, key=lambda member: member.ID)

    def initial_membership(self) -> Membership:
        return Membership(voters=frozenset(member.ID for member in self.initial_members()))


def _check_range(flag: str, value: int, low: int, high: int, unit: str) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{flag}: {value} is out of range; allowed are {low} to {high} {unit}")
