"""`raftkv serve` as a process of its own: its flags, what it writes, how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from raftkv.lab.ports import hold_ports, port_of

WAIT_S = 20.0
READY = "ready to serve client requests"
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL)\s")


@dataclass
class Serving:
    """A running or ended `raftkv serve`."""

    process: subprocess.Popen[str]
    client_port: int
    data_dir: Path
    lines: list[str] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _is_over: bool = False

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._is_over = True
            self._news.notify_all()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def wait_for(self, text: str, *, timeout_s: float = WAIT_S) -> str:
        """The first line with `text` in it."""
        with self._news:
            self._news.wait_for(lambda: self._is_over or any(text in line for line in self.lines), timeout_s)
            found = next((line for line in self.lines if text in line), None)
            assert found is not None, f"no line with {text!r} within {timeout_s} s in {self.lines}"
            return found

    def ready(self) -> Serving:
        self.wait_for(READY)
        return self

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.exit_code()

    def exit_code(self, *, timeout_s: float = WAIT_S) -> int:
        code = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    @property
    def strange_lines(self) -> list[str]:
        """Everything that is no log line: errors, tracebacks, what a library had to say."""
        return [line for line in self.lines if not LOG_LINE.match(line)]

    def refusal(self, code: int = 1) -> str:
        """The one line with which it did not start, or stopped; there must be no other word."""
        assert (self.exit_code(), len(self.strange_lines)) == (code, 1), (self.process.returncode, self.lines)
        (line,) = self.strange_lines
        assert line.startswith("Error: "), line
        return line.removeprefix("Error: ")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


class Servers:
    """Starts servers, whose ports are held from the beginning to the end; nothing of them outlives it."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack

    def ports(self, count: int) -> list[int]:
        """Ports that nobody else will be given until the end of the test."""
        holders = hold_ports(count)
        for holder in holders:
            self._stack.callback(holder.close)
        return [port_of(holder) for holder in holders]

    def run(self, *flags: str, environment: dict[str, str] | None = None) -> Serving:
        """`raftkv serve` with nothing but these flags."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAFTKV_", "ETCD_", "GRPC_"))}
        process = subprocess.Popen(
            [sys.executable, "-m", "raftkv", "serve", *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env=kept | {"PYTHONPATH": str(Path(__file__).parents[2])} | (environment or {}),
        )
        words = [word for flag in flags for word in flag.split("=", 1)]
        url = words[words.index("--listen-client-urls") + 1] if "--listen-client-urls" in words else ":2379"
        data_dir = Path(words[words.index("--data-dir") + 1]) if "--data-dir" in words else Path("default.raftkv")
        port = re.search(r":(\d+)$", url)
        serving = Serving(process, int(port[1]) if port else 0, self.directory / data_dir)
        self._stack.callback(serving.kill)
        return serving

    def start(self, *flags: str, data_dir: Path | None = None, environment: dict[str, str] | None = None) -> Serving:
        """A store of one node, on ports of its own unless the flags name others."""
        client, peer = self.ports(2)
        given = {
            "--listen-client-urls": f"http://127.0.0.1:{client}",
            "--listen-peer-urls": f"http://127.0.0.1:{peer}",
            # Fixed, so that the member's id does not depend on the ports: a data directory can be started again.
            "--initial-advertise-peer-urls": "http://127.0.0.1:2380",
            "--data-dir": str(data_dir or self.directory / "data"),
        }
        defaults = [word for flag, value in given.items() if flag not in flags for word in (flag, value)]
        return self.run(*defaults, *flags, environment=environment)

    def alone_of_three(self, *flags: str) -> Serving:
        """n1 of a cluster whose n2 and n3 do not exist."""
        ports = self.ports(3)
        members = ",".join(f"n{number}=http://127.0.0.1:{port}" for number, port in enumerate(ports, 1))
        url = f"http://127.0.0.1:{ports[0]}"
        return self.start(
            *("--name", "n1", "--initial-cluster", members),
            *("--listen-peer-urls", url, "--initial-advertise-peer-urls", url, *flags),
        )


@contextmanager
def servers_in(directory: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(directory, stack)


def wait_until(condition: Callable[[], object], *, timeout_s: float = WAIT_S) -> None:
    """Wait until a condition holds that nobody announces."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s} s"
        time.sleep(0.01)
