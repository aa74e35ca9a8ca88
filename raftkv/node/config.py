"""What a node is told about time and memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeConfig:
    """What the shell around the core needs to know. Times in seconds."""

    tick_s: float = 0.01
    repropose_ticks: int = 100
    """A batch still unresolved after this long under an unchanged leader is proposed again: its message may be lost."""
    entries_retained: int = 10_000
    log_bytes_retained: int = 16 * 1024 * 1024
