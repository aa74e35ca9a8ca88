"""`-w table`, and the rows that the simple format shares with it.

What may not live here: bytes of keys and values; there is no table of them.

Source: etcdctl draws with olekukonko/tablewriter: headings centred, cells to the right, long text wrapped at 30 columns
with as little raggedness as possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raftkv.cli.goformat import duration, human_size
from raftkv.cli.printers import EndpointHash, EndpointHealth, EndpointStatus, SavedSnapshot, Style
from raftkv.pb import rpc_pb2

WRAP_COLUMNS = 30
_TOO_LONG_COST = 100_000

STATUS_HEADINGS = (
    "ENDPOINT",
    "ID",
    "VERSION",
    "DB SIZE",
    "IS LEADER",
    "IS LEARNER",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "ERRORS",
)
HEALTH_HEADINGS = ("ENDPOINT", "HEALTH", "TOOK", "ERROR")
HASH_HEADINGS = ("ENDPOINT", "HASH")
SNAPSHOT_HEADINGS = ("HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE")
MEMBER_HEADINGS = ("ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER")


def member_list(answer: rpc_pb2.MemberListResponse, _: Style) -> bytes:
    return draw(MEMBER_HEADINGS, member_rows(answer))


def endpoint_status(answers: Sequence[EndpointStatus], _: Style) -> bytes:
    return draw(STATUS_HEADINGS, status_rows(answers))


def endpoint_hashkv(answers: Sequence[EndpointHash], _: Style) -> bytes:
    return draw(HASH_HEADINGS, hash_rows(answers))


def endpoint_health(answers: Sequence[EndpointHealth], _: Style) -> bytes:
    rows = [(health.endpoint, _word(not health.error), duration(health.took_s), health.error) for health in answers]
    return draw(HEALTH_HEADINGS, rows)


def snapshot_status(saved: SavedSnapshot, _: Style) -> bytes:
    return draw(SNAPSHOT_HEADINGS, [snapshot_row(saved)])


def snapshot_row(saved: SavedSnapshot) -> tuple[str, ...]:
    return f"{saved.hash:x}", str(saved.revision), str(saved.keys), human_size(saved.size)


def member_rows(answer: rpc_pb2.MemberListResponse) -> list[tuple[str, ...]]:
    return [
        (
            f"{member.ID:x}",
            "started" if member.name else "unstarted",
            member.name,
            ",".join(member.peerURLs),
            ",".join(member.clientURLs),
            _word(member.isLearner),
        )
        for member in answer.members
    ]


def status_rows(answers: Sequence[EndpointStatus]) -> list[tuple[str, ...]]:
    return [
        (
            status.endpoint,
            f"{status.response.header.member_id:x}",
            status.response.version,
            human_size(status.response.dbSize),
            _word(status.response.leader == status.response.header.member_id),
            _word(status.response.isLearner),
            str(status.response.raftTerm),
            str(status.response.raftIndex),
            str(status.response.raftAppliedIndex),
            ", ".join(status.response.errors),
        )
        for status in answers
    ]


def hash_rows(answers: Sequence[EndpointHash]) -> list[tuple[str, ...]]:
    return [(answer.endpoint, str(answer.response.hash)) for answer in answers]


def draw(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """An ASCII table; a cell of several lines makes its row as high, and its column at least WRAP_COLUMNS wide."""
    cells = [[wrap(cell) for cell in row] for row in rows]
    widths = [len(heading) for heading in headings]
    for row, wrapped in zip(rows, cells, strict=True):
        for column, (text, text_lines) in enumerate(zip(row, wrapped, strict=True)):
            widths[column] = max(widths[column], min(len(text), WRAP_COLUMNS), *(len(line) for line in text_lines))
    rule = "+" + "".join("-" * (width + 2) + "+" for width in widths)
    lines = [rule, _line(_centred(heading, width) for heading, width in zip(headings, widths, strict=True)), rule]
    for wrapped in cells:
        for at in range(max(len(cell) for cell in wrapped)):
            columns = (cell[at] if at < len(cell) else "" for cell in wrapped)
            lines.append(_line(text.rjust(width) for text, width in zip(columns, widths, strict=True)))
    lines.append(rule)
    return ("\n".join(lines) + "\n").encode()


def wrap(text: str, width: int = WRAP_COLUMNS) -> list[str]:
    """Lines of at most `width` (or the longest word), the sum of squared gaps least; the last line may be short."""
    words = text.replace("\n", " ").split(" ")  # An empty word keeps a space at the end, as tablewriter does.
    width = max(width, *(len(word) for word in words))
    best: list[tuple[int, int]] = [(0, 0)] * (len(words) + 1)  # From each word on: (cost, where the next line begins).
    for at in reversed(range(len(words))):
        if len(" ".join(words[at:])) <= width:
            best[at] = (0, len(words))
            continue
        options = []
        for after in range(at + 1, len(words)):
            length = len(" ".join(words[at:after]))
            cost = (width - length) ** 2 + best[after][0] + (_TOO_LONG_COST if length > width else 0)
            options.append((cost, after))
        best[at] = min(options)
    lines = []
    at = 0
    while at < len(words):
        after = best[at][1]
        lines.append(" ".join(words[at:after]))
        at = after
    return lines


def _word(value: bool) -> str:
    return "true" if value else "false"


def _centred(text: str, width: int) -> str:
    gap = width - len(text)
    return " " * (gap // 2) + text + " " * (gap - gap // 2)


def _line(columns: Iterable[str]) -> str:
    return "|" + "".join(f" {text} |" for text in columns)
