"""The `raftkv` command: etcdctl's grammar and outputs, one process, started fast.

    argv ─► main.run ─► LazyGroup ─► put | get | … ─► requests ─► rpc (sync gRPC) ─► printers ─► stdout
             exit codes   imports one     options      plain        endpoints tried    bytes in the
             one error    module, on use  (global ones messages     in turn, one       words of etcdctl
             line                          anywhere)                deadline

A command is a thin function: it turns arguments into a request message, sends it and hands the answer to a printer.
What stands in `requests.py`, `goformat.py` and `printers/` is pure and is tested without a server; `tests/cli` also runs
the same command lines through etcdctl against a real etcd and compares the outputs.

Start-up time is a feature: `raftkv version` imports click and nothing else of weight, `raftkv put` adds gRPC, and only
`raftkv serve` and `raftkv demo` import a server (layer 8 of the architecture: nothing imports this package).

Exit codes: 0 done; 1 the request failed (`Error: ...`, one line on stderr); 2 a bad flag or value; 3 a transaction that
cannot be read; 4 an output format the command does not have; 5 the server ended a watch; 128 missing, superfluous or
contradicting arguments; of `lock`, what its command ended with; 130 Ctrl-C; 141 the reader of our output went away. 1, 3, 4, 5 and 128 are etcdctl's.

Not done: etcdctl's auth, user and role, and the flags --discovery-srv* and --insecure-skip-tls-verify; TLS and logins for lock
and elect.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

# A subcommand of these needs more than the client install has; the table is here because it must work without click.
EXTRA_BY_COMMAND = {"serve": "server", "demo": "server"}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit; never returns.

    Args:
        argv: the arguments without the program's name; those of the process by default.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        from raftkv.cli.main import run
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        command = next((word for word in arguments if not word.startswith("-")), "")
        extra = EXTRA_BY_COMMAND.get(command, "cli")
        name = f"raftkv {command}" if command in EXTRA_BY_COMMAND else "raftkv"
        sys.stderr.write(f"Error: {name} needs the {extra} extra: pip install 'raftkv[{extra}]'\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(arguments))
