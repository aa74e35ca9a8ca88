"""The architecture, as a dict: a module imports only from rows below its own."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "raftkv"

ROWS: dict[int, set[str]] = {
    8: {"cli", "lab"},
    7: {"gateway", "dashboard", "metrics"},
    6: {"server", "client", "aio"},
    5: {"node"},
    4: {"transport", "storage", "statemachine"},
    3: {"wire", "config", "watch"},
    2: {"raft", "mvcc", "lease", "auth"},
    1: {"errors", "pb", "version", "durations"},
}
ROW_OF = {name: row for row, names in ROWS.items() for name in names}

FACADE = {"__init__", "__main__", "aio"}
"""Thin faces of the package: they may import anything (lazily, if it is heavy)."""

ALLOWED_ALWAYS: dict[str, set[str]] = {
    "client": {"errors", "pb", "version"},  # The light install.
    "raft": {"errors"},
}
SIDEWAYS = {("cli", "lab"), ("lease", "mvcc")}
"""Within a row: each is a decision. `raftkv demo` is a face of the lab; leases lie in the transaction of the keys they hold."""

FORBIDDEN_OUTSIDE: dict[str, set[str]] = {
    "client": {"lmdb", "uvloop", "click", "rich"},
    "raft": {"asyncio", "time", "threading", "socket", "os", "logging", "datetime", "secrets"},
}


def source_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "pb" not in path.relative_to(PACKAGE).parts[:1])


def owner(path: Path) -> str:
    """The part of the architecture that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, at its top or inside functions; not those for the type checker alone."""
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            pending.extend(node.orelse)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            if node.module == "raftkv":
                yield from (f"raftkv.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""
        else:
            pending.extend(ast.iter_child_nodes(node))


def own_imports(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("raftkv.")}


def outside_imports(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path) if not name.startswith("raftkv")}


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_rows_below(path: Path) -> None:
    part = owner(path)
    if part in FACADE:
        return
    assert part in ROW_OF, f"{part} has no row: give it one"
    for imported in own_imports(path) - {part}:
        if (part, imported) in SIDEWAYS:
            continue
        assert imported in ROW_OF, f"{path.name} imports raftkv.{imported}, which has no row"
        assert ROW_OF[imported] < ROW_OF[part], f"{part} (row {ROW_OF[part]}) imports {imported} ({ROW_OF[imported]})"


@pytest.mark.parametrize("part", sorted(ALLOWED_ALWAYS))
def test_light_parts_stay_light(part: str) -> None:
    for path in source_files():
        if owner(path) == part:
            extra = own_imports(path) - {part} - ALLOWED_ALWAYS[part]
            assert not extra, f"{path.name} imports {sorted(extra)}"
            heavy = outside_imports(path) & FORBIDDEN_OUTSIDE[part]
            assert not heavy, f"{path.name} imports {sorted(heavy)}"


def test_raft_imports_only_the_standard_library() -> None:
    for path in source_files():
        if owner(path) == "raft":
            foreign = {name for name in outside_imports(path) if name not in sys.stdlib_module_names}
            assert not foreign, f"{path.name} imports {sorted(foreign)}"


def test_raft_calls_nothing_of_the_random_module() -> None:
    """The generator is injected; the module itself only names its type."""
    for path in source_files():
        if owner(path) != "raft":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
                assert node.attr == "Random", f"{path.name} uses random.{node.attr}"


def test_only_roles_py_changes_term_vote_or_role() -> None:
    for path in source_files():
        if owner(path) != "raft" or path.name == "roles.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                    changed = (target.value.id, target.attr)
                    assert changed not in {("state", "term"), ("state", "vote")}, f"{path.name} sets {changed}"
                    assert target.attr not in {"role", "_role"}, f"{path.name} sets the role"
