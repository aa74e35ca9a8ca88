"""What is seen of a drill while it runs, and its table at the end.

On a terminal one line that changes, with what happens now and the canary's rates; elsewhere a plain line for each thing. All of it
goes to standard error, but for the table.

What may not live here: what happens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from raftkv.lab.drill.report import errors_in_words, milliseconds
from raftkv.lab.drill.run import Observer
from raftkv.lab.drill.verdict import Round

SPARKS = " ▁▂▃▄▅▆▇█"
SPARKS_SHOWN = 40


@contextmanager
def progress(console: Console) -> Iterator[Observer]:
    """What suits the console, while the context lasts."""
    if not console.is_terminal:
        yield PlainView(console)
        return
    with Live(console=console, transient=True) as live:
        yield LiveView(console, live)


class PlainView:
    """A line for each thing that happens."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def phase(self, text: str) -> None:
        self._say(text)

    def rates(self, reads: float, writes: float) -> None:
        """Not shown: nobody looks."""

    def finished(self, found: Round) -> None:
        self._say(in_one_line(found))

    def _say(self, text: str) -> None:
        self._console.print(
            f"{time.monotonic() - self._began:6.1f}s  {text}", markup=False, highlight=False, soft_wrap=True
        )


class LiveView:
    """One line that changes, and a line that stays for each round."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live
        self._text = ""
        self._sum: list[float] = []
        self._reads = self._writes = 0.0

    def phase(self, text: str) -> None:
        self._text = text
        self._show()

    def rates(self, reads: float, writes: float) -> None:
        self._reads, self._writes = reads, writes
        self._sum = [*self._sum, reads + writes][-SPARKS_SHOWN:]
        self._show()

    def finished(self, found: Round) -> None:
        style = "green" if found.ok else "red"
        self._console.print(Text(("✓ " if found.ok else "✗ ") + in_one_line(found), style=style))

    def _show(self) -> None:
        highest = max(self._sum, default=0.0) or 1.0
        sparks = "".join(SPARKS[round(rate / highest * (len(SPARKS) - 1))] for rate in self._sum)
        rates = f"  {sparks}  {self._writes:,.0f} writes/s, {self._reads:,.0f} reads/s" if self._sum else ""
        self._live.update(Spinner("dots", Text(self._text + rates)))


def in_one_line(found: Round) -> str:
    """A finished round: its figures if it passed, its problems if not."""
    figures = f"no write for {milliseconds(found.write_outage_s)}, no read for {milliseconds(found.read_outage_s)}"
    what = figures if found.ok else "; ".join(found.problems)
    return f"{found.fault} {found.number}: {what}"


def table(rounds: Sequence[Round]) -> Table:
    """The result."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("FAULT")
    for title in ("ROUND", "NO WRITE", "NO READ", "LEADER KNOWN", "TERMS", "LOST"):
        shown.add_column(title, justify="right")
    for title in ("HISTORY", "HASHES", "ERRORS", "VERDICT"):
        shown.add_column(title)
    for found in rounds:
        shown.add_row(
            found.fault,
            str(found.number),
            milliseconds(found.write_outage_s),
            milliseconds(found.read_outage_s),
            milliseconds(found.leader_known_s),
            f"+{found.terms}",
            str(len(found.lost)),
            found.linearizable or "not judged",
            "equal" if len(set(found.hashes.values())) == 1 else "differ" if found.hashes else "-",
            errors_in_words(found),
            Text("passed", style="green") if found.ok else Text("failed", style="red"),
        )
    return shown
