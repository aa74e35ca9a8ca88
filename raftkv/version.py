"""Which raftkv this is, and which etcd API it speaks."""

from __future__ import annotations

__version__ = "0.1.0"

ETCD_API_VERSION = "3.4.23"
"""What clients that ask for a server's version are told: they choose their features by it."""
