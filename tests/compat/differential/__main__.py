"""Random operations to etcd and to raftkv, every answer compared.

    python -m tests.compat.differential --operations 20000 --seed 1
    python -m tests.compat.differential --operations 20000 --seed 2 --nodes 3

A difference is shrunk to the shortest sequence that still shows it. The summary goes to .raftkv/differential.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from tests.compat.differential.runs import Run, random_run, same_steps
from tests.compat.differential.shrinking import shrink
from tests.compat.systems import has_etcd

HOME = Path(".raftkv/differential").absolute()
TOLD_EVERY = 1_000


def main() -> int:
    arguments = _arguments()
    if not has_etcd():
        say("etcd is not on the PATH (Debian: etcd-server)")
        return 1
    shutil.rmtree(HOME, ignore_errors=True)
    began = time.monotonic()

    def tell(count: int) -> None:
        if count % TOLD_EVERY == 0:
            say(f"{count} operations without a difference, {time.monotonic() - began:.0f} s")

    run = random_run(
        HOME, seed=arguments.seed, wants_more=lambda sent: sent < arguments.operations, nodes=arguments.nodes, tell=tell
    )
    if run.difference is not None:
        say(f"operation {len(run.sent)} of seed {arguments.seed} differs:\n{run.difference.text}\nshrinking ...")
        run = shrink(run, lambda steps: same_steps(HOME, steps, nodes=arguments.nodes))
    say(summary(run))
    told = {"seed": arguments.seed, "operations": len(run.sent), "events": run.events, "answers": run.answers}
    (HOME / "summary.json").write_text(json.dumps(told | {"difference": repr(run.difference)}, indent=1))
    return 1 if run.difference is not None else 0


def summary(run: Run) -> str:
    """How many of what were compared; or the steps that show a difference."""
    if run.difference is not None:
        return "\n".join([*(f"  {step}" for step in run.sent), run.difference.text])
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(run.answers.items()))
    left_out = f"; left out, because raftkv does not serve them yet: {', '.join(run.left_out)}" if run.left_out else ""
    return f"{len(run.sent)} operations and {run.events} events without a difference ({kinds}){left_out}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.compat.differential")
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=1, help="of raftkv")
    return parser.parse_args()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
