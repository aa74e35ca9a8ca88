"""The report of a drill: one HTML file that needs nothing else, no network and no script; and the same as JSON.

What may not live here: pictures (``picture.py``), judgement (``verdict.py``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from typing import Any

from raftkv.lab.drill.options import FAULTS, Options
from raftkv.lab.drill.picture import COLOURS, picture
from raftkv.lab.drill.target import Target
from raftkv.lab.drill.verdict import Round, is_passed
from raftkv.version import __version__

STYLE = """
:root { color-scheme: light dark; --ink: #1c1917; --paper: #fff; --faint: #e7e5e4; --soft: #78716c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e5e4; --paper: #1c1917; --faint: #44403c; --soft: #a8a29e; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--faint); vertical-align: top; }
td.n, th.n { text-align: right; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--faint); } svg .tick { fill: var(--soft); } svg .gap { fill: #f59e0b; opacity: .18; }
svg .mark { font-size: 10px; }
.good { color: #15803d; } .bad { color: #dc2626; } .soft { color: var(--soft); }
pre { white-space: pre-wrap; background: var(--faint); padding: .6rem; }
"""


def as_json(options: Options, target: Target, rounds: Sequence[Round], planned: int) -> dict[str, Any]:
    """Everything that was found; times in milliseconds, moments in seconds from the fault."""
    return {
        "ok": is_passed(rounds, planned),
        "raftkv": __version__,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cluster": {"id": f"{target.cluster_id:x}", "nodes": target.endpoints},
        "options": {
            "faults": list(options.faults),
            "rounds": options.rounds,
            "max_outage_ms": round(options.max_outage_s * 1000),
            "load": options.load,
            "prefix": options.prefix,
        },
        "planned": planned,
        "rounds": [found.to_json() for found in rounds],
    }


def as_html(options: Options, target: Target, rounds: Sequence[Round], planned: int) -> str:
    """The page."""
    passed = is_passed(rounds, planned)
    nodes = ", ".join(f"{name} ({endpoint})" for name, endpoint in target.endpoints.items())
    said = "every round passed" if passed else "not every round passed"
    load = options.load if isinstance(options.load, str) else f"{options.load:g} writes/s"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>raftkv drill: {said}</title><style>{STYLE}</style></head><body>
<h1>raftkv drill: <span class="{_class(passed)}">{said}</span></h1>
<p>{time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())} · cluster {target.cluster_id:x}: {escape(nodes)} · raftkv {__version__}<br>
{len(rounds)} of {planned} rounds · at most {options.max_outage_s:g} s without a success · load beside the canary: {load}</p>
{_table(rounds)}
{"".join(map(_section, rounds))}
<p class="soft">An outage is the longest time between two successes, over all clients of the canary, from the fault until after
healing. Dots are the slowest operation of each 50 ms. Yellow: no write succeeded.
<span style="color:{COLOURS["writes"]}">writes</span>, <span style="color:{COLOURS["reads"]}">reads</span>.</p>
</body></html>
"""


def milliseconds(seconds: float | None) -> str:
    """``26 ms``; a dash where there is none."""
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"


def errors_in_words(found: Round) -> str:
    """``3 x write: Unavailable, unknown``; ``none``."""
    return "; ".join(f"{count} x {kind}" for kind, count in sorted(found.errors.items())) or "none"


def _table(rounds: Sequence[Round]) -> str:
    head = "".join(
        f'<th class="{kind}">{title}</th>'
        for title, kind in (
            ("fault", ""),
            ("round", "n"),
            ("no write", "n"),
            ("no read", "n"),
            ("leader known", "n"),
            ("terms", "n"),
            ("errors", "n"),
            ("lost", "n"),
            ("history", ""),
            ("verdict", ""),
        )
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(map(_row, rounds))}</tbody></table>"


def _row(found: Round) -> str:
    cells = [
        ("", found.fault),
        ("n", str(found.number)),
        ("n", milliseconds(found.write_outage_s)),
        ("n", milliseconds(found.read_outage_s)),
        ("n", milliseconds(found.leader_known_s)),
        ("n", f"+{found.terms}"),
        ("n", str(sum(found.errors.values()))),
        ("n", str(len(found.lost))),
        ("", found.linearizable or "not judged"),
        (_class(found.ok), "passed" if found.ok else "failed"),
    ]
    return "<tr>" + "".join(f'<td class="{kind}">{escape(text)}</td>' for kind, text in cells) + "</tr>"


def _section(found: Round) -> str:
    problems = "".join(f'<p class="bad">{escape(problem)}</p>' for problem in found.problems)
    explanation = f"<pre>{escape(found.explanation)}</pre>" if found.explanation else ""
    lost = f"<pre>{escape(chr(10).join(found.lost))}</pre>" if found.lost else ""
    hashes = ", ".join(f"{name} {value}" for name, value in sorted(found.hashes.items())) or "none"
    return f"""
<h2>{escape(found.fault)}, round {found.number} <span class="{_class(found.ok)}">{"passed" if found.ok else "failed"}</span></h2>
<p>{escape(FAULTS[found.fault])}. {escape(found.did or "Nothing was done")}; led by {escape(found.leader_before or "-")} before and
{escape(found.leader_after or "-")} after. {found.operations:,} operations, {found.unknown} of unknown outcome; errors:
{escape(errors_in_words(found))}. Hashes: {escape(hashes)}.</p>
{problems}{lost}{explanation}{picture(found)}"""


def _class(is_good: bool) -> str:
    return "good" if is_good else "bad"
