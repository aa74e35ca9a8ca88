"""What a command imports, and what it says when something it needs is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKER = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from raftkv.cli import main
main({arguments!r})
"""


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["version"], {"grpc", "google.protobuf", "rich", "lmdb", "uvloop", "asyncio", "raftkv.pb", "raftkv.server"}),
        (["--help"], {"grpc", "google.protobuf", "rich", "lmdb", "uvloop", "asyncio", "raftkv.pb", "raftkv.server"}),
        (
            ["put", "a", "b", "--endpoints", "127.0.0.1:1", "--dial-timeout", "1ms"],
            {"rich", "lmdb", "uvloop", "raftkv.server", "raftkv.node", "raftkv.client", "raftkv.raft"},
        ),
    ],
)
def test_a_command_imports_only_what_it_needs(arguments: list[str], unwanted: set[str]) -> None:
    done = run_python(
        "import sys\nfrom raftkv.cli.main import run\n"
        f"run({arguments!r})\nprint('IMPORTED', *sorted(set(sys.modules) & {unwanted!r}))"
    )
    assert done.stdout.splitlines()[-1].split() == ["IMPORTED"], done


@pytest.mark.parametrize(
    ("missing", "arguments", "expected"),
    [
        ({"click"}, ["put", "a", "b"], "Error: raftkv needs the cli extra: pip install 'raftkv[cli]'"),
        ({"click"}, ["serve"], "Error: raftkv serve needs the server extra: pip install 'raftkv[server]'"),
        ({"click"}, [], "Error: raftkv needs the cli extra: pip install 'raftkv[cli]'"),
        (
            {"grpc"},
            ["get", "a"],
            "Error: raftkv needs the cli extra: pip install 'raftkv[cli]' (no module named grpc)",
        ),
    ],
)
def test_a_missing_package_is_one_line_that_says_how_to_get_it(
    missing: set[str], arguments: list[str], expected: str
) -> None:
    done = run_python(BLOCKER.format(missing=missing, arguments=arguments))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected + "\n")
