"""The prompt after the demo's story: the same cluster, to be broken by the user. Light traffic goes on, so outages show.

What may not live here: the story (``demo.py``).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from rich.console import Console

from raftkv.errors import RaftkvError
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.demo_view import in_words, node_table
from raftkv.lab.traffic import Traffic

with suppress(ImportError):  # Line editing and history, where Python has it.
    import readline  # noqa: F401

HELP = """\
  put KEY VALUE    get KEY    del KEY
  kill n1          SIGKILL
  pause n1         SIGSTOP
  resume n1        SIGCONT
  restart n1       stop it if it runs, and start it again with its data
  partition n1     cut its links to the others, silently; also n1|n2,n3
  heal             open all links
  status           who leads
  check            read everything back: is every acknowledged write there?
  help             this list
  exit             end everything"""
_OUTAGE_WATCH_S = 3.0
_TRAFFIC_PAUSE_S = 0.05
_QUIET_S = 0.25


class Prompt:
    """Reads commands and carries them out until the user has had enough."""

    def __init__(self, cluster: LocalCluster, traffic: Traffic, console: Console) -> None:
        self._cluster = cluster
        self._traffic = traffic
        self._console = console
        self._commands: Mapping[str, tuple[int, Callable[..., None]]] = {
            "put": (2, self._put),
            "get": (1, self._get),
            "del": (1, self._delete),
            "kill": (1, self._fault(cluster.kill)),
            "pause": (1, self._fault(cluster.pause)),
            "resume": (1, cluster.resume),
            "restart": (1, cluster.restart),
            "partition": (1, self._fault(cluster.partition)),
            "heal": (0, cluster.heal),
            "status": (0, self._status),
            "check": (0, self._check),
            "help": (0, lambda: console.print(HELP, highlight=False, markup=False)),
        }

    def run(self) -> None:
        """Until ``exit`` or the end of input. Ctrl-C ends a line, not the prompt."""
        console = self._console
        endpoints = ",".join(self._cluster.endpoints.values())
        console.print("\nThe cluster is yours; light traffic goes on. [bold]help[/] lists the commands.")
        console.print(f"From another shell: export RAFTKV_ENDPOINTS={endpoints}", highlight=False, soft_wrap=True)
        self._traffic.pause_s = _TRAFFIC_PAUSE_S
        self._traffic.start()
        while True:
            try:
                line = input("raftkv> ")
            except EOFError:
                console.print()
                return
            except KeyboardInterrupt:
                console.print("\n(exit ends the cluster and this prompt)", highlight=False)
                continue
            if not self.obey(line):
                return

    def obey(self, line: str) -> bool:
        """Carry one line out; False if it was the last."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            self._complain(str(error))
            return True
        if not words:
            return True
        name, arguments = words[0], words[1:]
        if name in ("exit", "quit"):
            return False
        if name not in self._commands:
            self._complain(f"no command {name!r}; there are {', '.join(self._commands)}, exit")
            return True
        wanted, command = self._commands[name]
        if len(arguments) != wanted:
            self._complain(f"{name} takes {wanted} argument{'s' if wanted != 1 else ''}, not {len(arguments)}")
            return True
        try:
            command(*arguments)
        except KeyboardInterrupt:
            self._complain("given up")
        except (RaftkvError, TimeoutError) as error:
            self._complain(str(error) or type(error).__name__)
        return True

    def _put(self, key: str, value: str) -> None:
        self._traffic.put(key, value)
        self._console.print("OK")

    def _get(self, key: str) -> None:
        item = self._traffic.get(key)
        if item is None:
            self._console.print("(no such key)")
        else:
            text = item.value.decode(errors="backslashreplace")
            self._console.print(f"{text}   [dim]revision {item.mod_revision}[/]", highlight=False)

    def _delete(self, key: str) -> None:
        self._console.print(f"{self._traffic.delete(key).deleted} deleted", highlight=False)

    def _check(self) -> None:
        self._traffic.stop()
        try:
            for line in in_words(self._traffic.read_back()):
                self._console.print(line, highlight=False)
        finally:
            self._traffic.start()

    def _status(self) -> None:
        self._console.print(node_table(self._cluster.status()))
        cuts = [f"{a}>{b}" for a, b in sorted(self._cluster.rules())]
        if cuts:
            self._console.print(f"  cut: {', '.join(cuts)}", highlight=False)
        counts = self._traffic.counts
        self._console.print(
            f"  {counts.acknowledged:,} writes acknowledged, {self._traffic.rate():,.0f} a second", highlight=False
        )

    def _fault(self, make: Callable[..., object]) -> Callable[..., None]:
        """Make a fault, then tell what it cost: the longest time without an acknowledged write."""

        def make_and_tell(argument: str) -> None:
            moment = time.monotonic()
            make(argument)
            while time.monotonic() - moment < _OUTAGE_WATCH_S:
                time.sleep(_QUIET_S)
            going = self._traffic.acknowledged_since(time.monotonic() - _QUIET_S) > 0
            gap_ms = self._traffic.longest_gap_s(moment) * 1000
            leader = self._cluster.leader()
            if going:
                self._console.print(
                    f"{leader or 'nobody'} leads; the longest time without an acknowledged write was {gap_ms:,.0f} ms",
                    highlight=False,
                )
            else:
                self._console.print(f"no write has been acknowledged for {gap_ms:,.0f} ms", highlight=False)

        return make_and_tell

    def _complain(self, text: str) -> None:
        self._console.print(text, style="red", highlight=False, markup=False)
