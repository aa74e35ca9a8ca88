"""The last lines of a log file, and the lines that are added to several of them while one watches.

What may not live here: where the files are (``cluster.py``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

_TAIL_BYTES = 64 * 1024
_POLL_S = 0.1


def read_from(path: Path, offset: int) -> str:
    """What a log says from a byte onwards; nothing where there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def tail(path: Path, lines: int, *, offset: int = 0) -> list[str]:
    """The last lines of a log, none before ``offset``."""
    size = path.stat().st_size if path.exists() else 0
    start = max(offset, size - _TAIL_BYTES)
    return read_from(path, start).splitlines()[-lines:] if lines > 0 else []


def follow(paths: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """Lines that are added from now on, with the name of their log. Ends only when the caller stops asking."""
    return _lines_from({name: path.stat().st_size if path.exists() else 0 for name, path in paths.items()}, paths)


def _lines_from(offsets: dict[str, int], paths: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    while True:
        idle = True
        for name, path in paths.items():
            text = read_from(path, offsets[name])
            whole = text[: text.rfind("\n") + 1]  # A line that is still being written waits for its end.
            offsets[name] += len(whole.encode(errors="replace"))
            for line in whole.splitlines():
                idle = False
                yield name, line
        if idle:
            time.sleep(_POLL_S)
