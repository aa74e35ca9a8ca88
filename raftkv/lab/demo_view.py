"""What the demo shows: on a terminal a picture that moves, elsewhere plain lines.

What may not live here: what happens (``demo.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raftkv.lab.cluster import NodeStatus
from raftkv.lab.probe import NodeAnswer
from raftkv.lab.traffic import Counts, Verdict

_BARS = " ▁▂▃▄▅▆▇█"
_REFRESH_PER_S = 10


@dataclass(frozen=True, kw_only=True)
class Board:
    """One moment of the cluster and of the writes that go to it."""

    nodes: Sequence[NodeStatus]
    counts: Counts
    rate: float
    history: Sequence[int]


class View(Protocol):
    """Where the demo shows itself."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def step(self, text: str) -> None:
        """Something has happened, or is about to."""

    def board(self, look: Callable[[], Board]) -> None:
        """Time passes; whoever shows how things are now may look."""


class PlainView:
    """One line for each step, with the seconds since the start; moments in between are not shown."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def step(self, text: str) -> None:
        """Print the step."""
        shown = Text.from_markup(text).plain
        self._console.print(
            f"{time.monotonic() - self._start:5.1f}s  {shown}", highlight=False, markup=False, soft_wrap=True
        )

    def board(self, look: Callable[[], Board]) -> None:
        """Show nothing: there is no place to come back to."""


class LiveView:
    """Steps scroll by above a board that is drawn anew several times a second."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=_REFRESH_PER_S, transient=True)
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def step(self, text: str) -> None:
        """Print the step above the board."""
        self._live.console.print(f"[dim]{time.monotonic() - self._start:5.1f}s[/]  {text}", highlight=False)

    def board(self, look: Callable[[], Board]) -> None:
        """Draw the board anew."""
        board = look()
        self._live.update(Group(Text(), node_table(board.nodes), Text(), traffic_line(board)))


def node_table(nodes: Sequence[NodeStatus]) -> RenderableType:
    """The nodes with their roles."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for title in ("  node", "process", "role", "term", "applied", "endpoint"):
        table.add_column(title, header_style="dim", min_width=8)
    for node in nodes:
        style = "" if node.state == "running" else "red" if node.state in ("killed", "crashed") else "yellow"
        table.add_row(f"  {node.name}", Text(node.state, style=style), *_says(node.answer), node.endpoint)
    return table


def traffic_line(board: Board) -> RenderableType:
    """Writes a second, the last seconds as bars, and what became of all."""
    highest = max([*board.history, 1])
    bars = "".join(_BARS[round(number / highest * (len(_BARS) - 1))] for number in board.history)
    counts = board.counts
    return Text.from_markup(
        f"  [green]{bars}[/]  {board.rate:,.0f} writes/s\n"
        f"  [bold]{counts.acknowledged:,}[/] acknowledged   {counts.unknown:,} of unknown outcome   "
        f"{counts.refused:,} refused"
    )


def in_words(verdict: Verdict) -> list[str]:
    """What reading everything back has shown, in a line or two."""
    unknown = verdict.unknown_applied + verdict.unknown_absent
    lines = (
        [f"of {unknown:,} writes of unknown outcome {verdict.unknown_applied:,} are there: both is right"]
        if unknown
        else []
    )
    if verdict.good:
        return [f"[bold green]all {verdict.acknowledged:,} acknowledged writes are there[/]", *lines]
    return [
        (
            f"[bold red]{len(verdict.lost):,} of {verdict.acknowledged:,} acknowledged writes are lost[/] "
            f"{', '.join(verdict.lost[:3])}; {len(verdict.intruders):,} keys are there that should not be"
        ),
        *lines,
    ]


def _says(answer: NodeAnswer | str) -> tuple[Text, str, str]:
    if isinstance(answer, str):
        return Text("-" if answer == "no process" else answer, style="dim"), "", ""
    role = Text("leader", style="bold green") if answer.leads else Text("follower" if answer.leader_id else "no leader")
    return role, str(answer.term), f"{answer.applied_index:,}"
