"""`make compat`: every judge on three nodes of etcd, then on three of raftkv; the table, and all differences.

    make compat                                  every judge
    make compat ARGS="--judge aetcd"             one
    make compat ARGS="--recorded"                compare with what is recorded of etcd, instead of asking it
    make compat ARGS="--baseline"                and write what passes on etcd into tests/compat/baseline.json

What judges said stays below .raftkv/compat, with a summary in JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
from pathlib import Path

from tests.compat.differences import EXPECTED
from tests.compat.judgement import (
    details,
    judge,
    passes,
    read_baseline,
    table,
    write_baseline,
)
from tests.compat.judges import JUDGES, JudgeError
from tests.compat.packages import FetchError
from tests.compat.sessions import judged_by
from tests.compat.systems import has_etcd, has_gateway

HOME = Path(".raftkv/compat").absolute()


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that no runner and no node outlives us.
    if not has_etcd() and not arguments.recorded:
        say("etcd and etcdctl are not on the PATH (Debian: etcd-server, etcd-client)")
        return 1
    shutil.rmtree(HOME, ignore_errors=True)
    baseline, judgements = read_baseline(), []
    try:
        for name in arguments.judge or JUDGES:
            one = JUDGES[name]
            one.install()
            if not arguments.recorded:
                theirs = judged_by(one, "etcd", HOME)
                _tell_of_baseline(name, baseline.get(name, []), passes(theirs))
                baseline[name] = passes(theirs)
            if one.needs_http and not has_gateway():
                say(f"{name} is not asked about raftkv: it has no JSON gateway yet")
            else:
                ours = judged_by(one, "raftkv", HOME)
                judgements.append(judge(name, baseline[name], ours, EXPECTED[name]))
    except (FetchError, JudgeError) as error:
        say(f"Error: {error}")
        return 1
    if arguments.baseline:
        write_baseline(baseline)
    (HOME / "summary.json").write_text(json.dumps([vars(one) for one in judgements], indent=1))
    say(f"\n{table(judgements)}\n\n{details(judgements)}")
    return 0 if all(one.is_sound for one in judgements) else 1


def _tell_of_baseline(name: str, recorded: list[str], found: list[str]) -> None:
    for test in sorted(set(recorded) ^ set(found)) if recorded else ():
        now = "passes" if test in found else "does not pass"
        say(f"  {name}: {test} {now} on etcd, other than recorded")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__.partition("\n")[0])
    parser.add_argument("--judge", action="append", choices=list(JUDGES), help="one of them; may be given again")
    parser.add_argument("--recorded", action="store_true", help="take what is recorded of etcd instead of asking it")
    parser.add_argument("--baseline", action="store_true", help="record what passes on etcd")
    return parser.parse_args()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
