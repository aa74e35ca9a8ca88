"""What `import raftkv` gives, and what it costs."""

from __future__ import annotations

import inspect
import subprocess
import sys

import raftkv
import raftkv.aio
import raftkv.client
import raftkv.errors


def test_every_exported_name_is_there() -> None:
    for module in (raftkv, raftkv.aio, raftkv.client):
        for name in module.__all__:
            assert getattr(module, name) is not None, f"{module.__name__}.{name}"
        assert sorted(module.__all__) == list(dict.fromkeys(sorted(module.__all__)))


def test_every_request_error_is_exported() -> None:
    def below(cls: type[raftkv.errors.RequestError]) -> set[str]:
        return {cls.__name__}.union(*(below(child) for child in cls.__subclasses__() if _of_the_tree(child)))

    assert below(raftkv.errors.RequestError) <= set(raftkv.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(raftkv, "conect")


def test_both_faces_have_the_same_methods_and_arguments() -> None:
    def face(cls: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(cls, inspect.isfunction)
        return {name: list(inspect.signature(m).parameters) for name, m in methods if not name.startswith("_")}

    assert face(raftkv.Client) == face(raftkv.AsyncClient)
    assert face(raftkv.client.Txn) == face(raftkv.client.AsyncTxn)
    assert inspect.signature(raftkv.connect).parameters == inspect.signature(raftkv.aio.connect).parameters


def test_importing_raftkv_alone_loads_neither_grpc_nor_protobuf() -> None:
    loaded = _modules_after("import raftkv, raftkv.errors")

    assert not loaded & {"grpc", "google.protobuf", "raftkv.client", "asyncio"}


def test_the_client_loads_nothing_that_only_a_server_or_the_command_needs() -> None:
    loaded = _modules_after("import raftkv; raftkv.connect; raftkv.aio.connect")

    assert "grpc" in loaded
    assert not loaded & {"lmdb", "uvloop", "click", "rich"}
    ours = {name.split(".")[1] for name in loaded if name.startswith("raftkv.")}
    assert ours == {"aio", "client", "errors", "pb"}


def _of_the_tree(cls: type) -> bool:
    return cls.__module__ == "raftkv.errors"


def _modules_after(code: str) -> set[str]:
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
