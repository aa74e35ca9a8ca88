"""How channels and servers between peers are set up: the gRPC options, each with its reason."""

from __future__ import annotations

CHUNK_BYTES = 512 * 1024
"""Data in one snapshot chunk."""

_COMMON: list[tuple[str, int]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A peer that vanished without a word (a silent cut) must not hold the stream for the minutes TCP would wait.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]

CHANNEL_OPTIONS: list[tuple[str, int]] = [
    *_COMMON,
    ("grpc.use_local_subchannel_pool", 1),  # A new channel is a new connection, not a shared one in back-off.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # In fact the time a connection attempt gets.
    ("grpc.max_reconnect_backoff_ms", 200),
]

SERVER_OPTIONS: list[tuple[str, int]] = [
    *_COMMON,
    ("grpc.so_reuseport", 0),  # Two nodes on one port would each get half of the connections.
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
]
