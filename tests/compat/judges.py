"""The judges: where each comes from, and how its own runner is started against a system.

A judge is installed from its registry apart from everything else; its suite runs unchanged. What it needs around it and does not
find on another machine is put there: a certificate, the ids of the two nodes that it stops to take the quorum away.

What may not live here: what the results mean (``judgement.py``).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.compat.packages import HOME, FetchError, Package, once, run, unpack, virtual_environment
from tests.compat.results import Results, of_junit, of_mocha
from tests.compat.systems import System
from tests.compat.tls_front import Certificate, front

INSIDE = Path(__file__).parent / "inside"
SUITE_S = 400.0
ETCD_VERSION = "3.4.23"


class JudgeError(Exception):
    """A judge's runner did not come to a result."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """One suite.

    Attributes:
        packages: the client, and what else of it comes from its registry; all pinned.
        recipe: what is installed beside it; written down, so that a change installs anew.
        prepare: install it into a folder.
        command: the runner's command line, in which ``{report}`` is the file that it must write.
        suite: where the runner is started, in the judge's folder.
        environment: what tells the suite where the server is.
        needs_http: it speaks to the JSON gateway.
        needs_tls: it speaks only TLS.
        parse: reads the report.
        leaving_out: how its runner is told to leave tests out.
    """

    name: str
    packages: tuple[Package, ...]
    recipe: tuple[str, ...]
    prepare: Callable[[Judge, Path], None]
    command: tuple[str, ...]
    suite: str
    environment: Callable[[str], dict[str, str]]
    parse: Callable[[Path], Results]
    needs_http: bool = False
    needs_tls: bool = False
    leaving_out: Callable[[Sequence[str]], tuple[str, ...]]

    @property
    def folder(self) -> Path:
        return HOME / self.name

    def install(self) -> None:
        """Fetch and install it, unless that is done.

        Raises:
            FetchError: a registry does not have it, or something else than what is pinned; npm or openssl is missing.
        """
        once(self.folder, (self.packages, self.recipe), lambda: self.prepare(self, self.folder))

    def run(self, system: System, directory: Path, *, leave_out: Sequence[str] = ()) -> Results:
        """Let it judge; its own words stay in the directory.

        Args:
            leave_out: what its runner is told to leave out.

        Raises:
            JudgeError: it came to no result in time.
        """
        directory.mkdir(parents=True, exist_ok=True)
        report = directory / "report"
        report.unlink(missing_ok=True)
        with ExitStack() as stack:
            endpoint = system.http_endpoint if self.needs_http else system.endpoint
            assert endpoint is not None, f"{system.name} has no gateway"
            if self.needs_tls:
                endpoint = stack.enter_context(front(endpoint, self._certificate()))
            environment = _clean() | self.environment(endpoint) | {"ETCDCTL_API": "3"}
            environment["PATH"] = f"{_pgrep(directory, system.other_pids)}:{environment['PATH']}"
            words = [word.format(folder=self.folder, report=report, inside=INSIDE) for word in self.command]
            chosen = self.leaving_out(leave_out) if leave_out else ()
            _start([*words, *chosen], self.folder / self.suite, environment, directory / "output")
        if not report.exists():
            said = (directory / "output").read_text(errors="replace")[-3000:]
            raise JudgeError(f"{self.name} wrote no report on {system.name}. It said:\n{said}")
        return self.parse(report)

    def _certificate(self) -> Certificate:
        return Certificate(self.folder / "certificate" / "localhost.crt", self.folder / "certificate" / "localhost.key")


def _start(command: Sequence[str], folder: Path, environment: dict[str, str], output: Path) -> None:
    """Run it to its end, in a process group that does not outlive its time."""
    with output.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            process.wait(SUITE_S)
        except subprocess.TimeoutExpired:
            raise JudgeError(f"{' '.join(command)} was not done after {SUITE_S:g} s: {output}") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _clean() -> dict[str, str]:
    mixed = ("ETCD", "RAFTKV_", "GRPC_", "PYTEST_", "PYTHON", "COV_")
    return {name: value for name, value in os.environ.items() if not name.startswith(mixed)}


def _pgrep(directory: Path, pids: Sequence[int]) -> Path:
    """A folder with a `pgrep` that names our two other nodes.

    Two suites stop a quorum: they look for the processes that their own test bed has started, by a name which ours do not have.
    """
    folder = (directory / "bin").absolute()
    folder.mkdir(exist_ok=True)
    script = folder / "pgrep"
    script.write_text("#!/bin/sh\n" + "".join(f"echo {pid}\n" for pid in pids))
    script.chmod(0o755)
    return folder


# --- from PyPI --------------------------------------------------------------------------------------------------------

PYTEST = ("{folder}/venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-W", "ignore")
PYTEST += ("--junitxml={report}",)


def _deselect(tests: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for test in tests for word in ("--deselect", test))


def _prepare_python(judge: Judge, folder: Path) -> None:
    (package,) = judge.packages
    archive = package.fetch(folder)
    unpack(archive, folder / "suite").rename(folder / "suite" / "source")
    virtual_environment(folder / "venv", [str(archive), *judge.recipe])


AETCD = Judge(
    name="aetcd",
    packages=(Package("pypi", "aetcd", "1.0.0", "9d7173c9909ea3fc8a54dc7c82227c0ddf439d1b42c1bd2496956297d76c1107"),),
    recipe=("grpcio==1.85.1", "protobuf==7.36.2", "pytest==9.0.3", "pytest-asyncio==1.3.0", "pytest-mock==3.15.1"),
    prepare=_prepare_python,
    command=(*PYTEST, "--with-cluster", "tests/integration"),
    suite="suite/source",
    environment=lambda endpoint: {"TEST_ETCD_HTTP_URL": f"http://{endpoint}", "TEST_ETCD_VERSION": f"v{ETCD_VERSION}"},
    parse=of_junit,
    leaving_out=_deselect,
)

ETCD3 = Judge(
    name="etcd3 (Python)",
    packages=(Package("pypi", "etcd3", "0.12.0", "89a704cb389bf0a010a1fa050ce19342d23bf6371ebda1c21cfe8ff3ed488726"),),
    # tenacity: its lock is written for a release whose wait functions take two arguments.
    recipe=(
        "grpcio==1.85.1",
        "protobuf==7.36.2",
        "six==1.17.0",
        "tenacity==6.3.1",
        "hypothesis==6.170.15",
        "mock==5.2.0",
        "pytest==9.0.3",
    ),
    prepare=_prepare_python,
    command=(*PYTEST, "-p", "judged_server", "tests"),
    suite="suite/source",
    environment=lambda endpoint: {
        "PYTHON_ETCD_HTTP_URL": f"http://{endpoint}",
        "JUDGED_SERVER": endpoint,
        "TEST_ETCD_VERSION": f"v{ETCD_VERSION}",
        "PYTHONPATH": str(INSIDE),
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",  # Its generated code is of protobuf 3.6.
    },
    parse=of_junit,
    leaving_out=_deselect,
)

ETCD3GW = Judge(
    name="etcd3gw",
    packages=(Package("pypi", "etcd3gw", "2.7.0", "55e95b788ec4e72a57e704c2eccdf44163ef23bcb4fce883c71936e1ed8ad8f8"),),
    recipe=("requests==2.34.2", "urllib3==2.8.0", "oslotest==6.1.1", "pytest==9.0.3"),
    prepare=_prepare_python,
    command=(*PYTEST, "etcd3gw/tests/test_etcd3gw.py"),
    suite="suite/source",
    environment=lambda endpoint: {
        "TOOZ_TEST_HTTP_URL": f"http://{endpoint}",
        "TOOZ_TEST_ETCD_PORT": endpoint.rpartition(":")[2],
    },
    parse=of_junit,
    needs_http=True,
    leaving_out=_deselect,
)

# --- from npm ---------------------------------------------------------------------------------------------------------

NODE_PACKAGES = ("mocha@10.2.0", "chai@4.3.7", "chai-as-promised@7.1.1", "chai-subset@1.6.0", "sinon@9.2.4")


def _prepare_node(judge: Judge, folder: Path) -> None:
    """The client, with the suite that only an older release of it was published with, and the certificate that this reads."""
    client, with_suite = judge.packages
    for tool in ("node", "npm", "openssl"):
        if shutil.which(tool) is None:
            raise FetchError(f"{tool} is not installed")
    unpack(client.fetch(folder), folder / "suite").rename(folder / "suite" / "source")
    source = folder / "suite" / "source"
    older = unpack(with_suite.fetch(folder), folder / "older")
    shutil.copytree(older / "lib" / "src" / "test", source / "lib" / "test")
    (folder / "suite" / "package.json").write_text('{"private": true}')
    run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *judge.recipe], folder / "suite")
    made = Certificate.make(folder / "certificate")
    certificates = source / "src" / "test" / "certs"
    for name, path in {"certs/ca.crt": made.certificate, "certs/etcd0.localhost.crt": made.certificate}.items():
        (certificates / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, certificates / name)
    (certificates / "private").mkdir()
    shutil.copy(made.key, certificates / "private" / "etcd0.localhost.key")


NODE_ETCD3 = Judge(
    name="etcd3 (npm)",
    packages=(
        Package("npm", "etcd3", "1.1.2", "d768a78033ee7dd4596d2af68725d1b353a56934bc543d1d100e3698f9b6d572"),
        Package("npm", "etcd3", "1.0.2", "41f2a296efd90ffbeebb6057afb63a7e2ba4da025790d5e0709a2403b886d85d"),
    ),
    recipe=(
        "@grpc/grpc-js@1.14.7",
        "@grpc/proto-loader@0.7.15",
        "bignumber.js@9.3.1",
        "cockatiel@3.2.1",
        *NODE_PACKAGES,
    ),
    prepare=_prepare_node,
    command=(
        *("node", "{folder}/suite/node_modules/mocha/bin/mocha.js", "--exit", "--timeout", "20000"),
        *("--reporter", "json", "--reporter-option", "output={report}"),
        *("--require", "lib/test/_setup.js", "lib/test/*.test.js"),
    ),
    suite="suite/source",
    environment=lambda endpoint: {"ETCD_ADDR": endpoint, "ETCD_VERSION": ETCD_VERSION},
    parse=of_mocha,
    needs_tls=True,
    leaving_out=lambda tests: ("--invert", "--grep", "|".join(map(re.escape, tests))),
)

JUDGES = {judge.name: judge for judge in (AETCD, ETCD3, ETCD3GW, NODE_ETCD3)}
