"""`make compat`: every judge on three nodes of etcd, then on three of raftkv; the table, and all differences.

    make compat                                  every judge
    make compat ARGS="--judge aetcd"             one
    make compat ARGS="--baseline"                and write what passes on etcd into tests/compat/baseline.json

What judges said stays below .raftkv/compat, with a summary in JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from tests.compat.differences import EXPECTED, LEFT_OUT
from tests.compat.judgement import (
    Judgement,
    count,
    details,
    judge,
    passes,
    read_baseline,
    table,
    write_baseline,
)
from tests.compat.judges import JUDGES, Judge, JudgeError
from tests.compat.packages import FetchError
from tests.compat.results import Results
from tests.compat.systems import has_etcd, has_gateway, running

HOME = Path(".raftkv/compat").absolute()


def main() -> int:
    arguments = _arguments()
    if not has_etcd():
        say("etcd and etcdctl are not on the PATH (Debian: etcd-server, etcd-client)")
        return 1
    judges = [JUDGES[name] for name in arguments.judge or JUDGES]
    if not has_gateway() and any(one.needs_http for one in judges):
        say(
            "left out, because raftkv has no JSON gateway yet: "
            + ", ".join(one.name for one in judges if one.needs_http)
        )
        judges = [one for one in judges if not one.needs_http]
    shutil.rmtree(HOME, ignore_errors=True)
    baseline, judgements = read_baseline(), []
    try:
        for one in judges:
            judgement, theirs = judged(one)
            judgements.append(judgement)
            _tell_of_baseline(one.name, baseline.get(one.name, []), passes(theirs))
            baseline[one.name] = passes(theirs)
    except (FetchError, JudgeError) as error:
        say(f"Error: {error}")
        return 1
    if arguments.baseline:
        write_baseline(baseline)
    (HOME / "summary.json").write_text(json.dumps([vars(one) for one in judgements], indent=1))
    say(f"\n{table(judgements)}\n\n{details(judgements)}")
    return 0 if all(one.is_sound for one in judgements) else 1


def judged(one: Judge) -> tuple[Judgement, Results]:
    """A judge on etcd and on raftkv; and what it found on etcd."""
    one.install()
    theirs, ours = _on("etcd", one), _on("raftkv", one)
    return judge(one.name, passes(theirs), count(theirs), ours, EXPECTED[one.name]), theirs


def _on(system: str, one: Judge) -> Results:
    began = time.monotonic()
    nodes = 1 if one.needs_http and system == "raftkv" else 3
    directory = HOME / f"{one.name}-{system}"
    with running(system, directory, nodes=nodes, http=one.needs_http) as cluster:
        results = one.run(cluster, directory, leave_out=list(LEFT_OUT[one.name]))
    say(f"{one.name} on {system}: {dict(count(results))} in {time.monotonic() - began:.0f} s")
    return results


def _tell_of_baseline(name: str, recorded: list[str], found: list[str]) -> None:
    for test in sorted(set(recorded) ^ set(found)) if recorded else ():
        now = "passes" if test in found else "does not pass"
        say(f"  {name}: {test} {now} on etcd, other than recorded")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__.partition("\n")[0])
    parser.add_argument("--judge", action="append", choices=list(JUDGES), help="one of them; may be given again")
    parser.add_argument("--baseline", action="store_true", help="record what passes on etcd")
    return parser.parse_args()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
