"""Reading endpoints: `"10.0.0.1:2379,10.0.0.2:2379"`, URLs, lists, IPv6, and where none is given the environment.

What may not live here: connections.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from raftkv.errors import ConfigError

DEFAULT_ENDPOINT = "127.0.0.1:2379"
ENVIRONMENT = "RAFTKV_ENDPOINTS"
_ALLOWED = "allowed: HOST:PORT, http://HOST:PORT, [IPV6]:PORT"


def parse_endpoints(endpoints: str | Iterable[str] | None = None) -> tuple[str, ...]:
    """`HOST:PORT` strings without duplicates, in the order given.

    Args:
        endpoints: one string, several separated by commas, or an iterable of such strings. None: what the environment
            variable RAFTKV_ENDPOINTS says, or else 127.0.0.1:2379.

    Raises:
        ConfigError: names the endpoint that is wrong, and what is allowed.
    """
    if endpoints is None:
        endpoints = os.environ.get(ENVIRONMENT) or DEFAULT_ENDPOINT
    texts = [endpoints] if isinstance(endpoints, str) else list(endpoints)
    for text in texts:
        if not isinstance(text, str):
            raise ConfigError(f"endpoint {text!r} is not a string; {_ALLOWED}")
    parts = [part.strip() for text in texts for part in text.split(",")]
    if not parts:
        raise ConfigError(f"no endpoints given; {_ALLOWED}")
    return tuple(dict.fromkeys(_parse_endpoint(part) for part in parts))


def _parse_endpoint(text: str) -> str:
    scheme, separator, rest = text.rpartition("://")
    if separator and scheme == "https":
        raise ConfigError(f"endpoint {text!r} wants TLS, which this client does not speak yet; {_ALLOWED}")
    if separator and scheme != "http":
        raise ConfigError(f"endpoint {text!r} has an unknown scheme; {_ALLOWED}")
    host, colon, port = rest.rstrip("/").rpartition(":")
    if not colon or not host:
        raise ConfigError(f"endpoint {text!r} lacks a host or a port; {_ALLOWED}")
    bracketed = host.startswith("[") and host.endswith("]") and len(host) > 2
    if any(c in host for c in "/@ \t\n") or (not bracketed and any(c in host for c in ":[]")):
        raise ConfigError(f"endpoint {text!r} has a malformed host; {_ALLOWED}")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"endpoint {text!r} has no port between 1 and 65535; {_ALLOWED}")
    return f"{host}:{int(port)}"
