"""A write-ahead log that was cut, or in which a bit has flipped, as an operator meets it.

Every byte and every bit are tried in `tests/storage`; here it is the whole node, at places of each kind.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftkv.pb import rpc_pb2
from tests.server.grpc_api import Api
from tests.server.process import Servers, servers_in
from tests.support import copy_data_dir

KEYS = 40
VALUE = b"v" * 100


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a node killed after 40 acknowledged puts, none of which the state machine had committed."""
    with servers_in(tmp_path_factory.mktemp("crashed")) as servers:
        serving = servers.start().ready()
        api = Api(serving.endpoint)
        copy_data_dir(serving.data_dir / "state", servers.directory / "state")
        for number in range(KEYS):
            api.put(b"k%03d" % number, VALUE)
        api.close()
        serving.kill()
        shutil.rmtree(serving.data_dir / "state")
        copy_data_dir(servers.directory / "state", serving.data_dir / "state")
        yield serving.data_dir


@pytest.fixture
def log_end(crashed: Path) -> int:
    """Where the last put ends in the log's only segment; a tick of the log's clock may stand behind it."""
    return segment_of(crashed).read_bytes().rindex(VALUE) + len(VALUE)


@pytest.fixture
def copy(crashed: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    copy_data_dir(crashed, target)
    return target


def segment_of(data_dir: Path) -> Path:
    (segment,) = (data_dir / "wal").glob("*.wal")
    return segment


def keys(servers: Servers, data_dir: Path) -> int:
    """How many of the keys are there once the node has started: they must be the first ones."""
    serving = servers.start(data_dir=data_dir).ready()
    api = Api(serving.endpoint)
    found = api.kv(rpc_pb2.RangeRequest(key=b"k", range_end=b"l", keys_only=True)).kvs
    assert [kv.key for kv in found] == [b"k%03d" % number for number in range(len(found))]
    api.put(b"after", b"v")
    api.close()
    assert serving.stop() == 0
    assert not serving.strange_lines, serving.lines
    return len(found)


def test_a_killed_node_has_every_acknowledged_write_in_its_log(servers: Servers, copy: Path) -> None:
    assert keys(servers, copy) == KEYS


@pytest.mark.parametrize("missing", [1, 60, 200, 1500])
def test_a_log_whose_last_write_was_torn_starts_with_all_before_it(
    servers: Servers, copy: Path, log_end: int, missing: int
) -> None:
    segment = segment_of(copy)
    data = segment.read_bytes()
    with segment.open("wb") as file:
        file.write(data[: log_end - missing])
        file.truncate(len(data))

    found = keys(servers, copy)

    assert KEYS - 1 - missing // 100 <= found < KEYS
    assert keys(servers, copy) == found


@pytest.mark.parametrize("size", [0, 1, 100, 4000, 1 << 20])
def test_a_log_file_that_was_cut_is_refused(servers: Servers, copy: Path, size: int) -> None:
    """No crash shortens a log file, whose space is reserved when it is made: somebody else did, and perhaps lost writes."""
    segment = segment_of(copy)
    with segment.open("r+b") as file:
        file.truncate(size)
    before = segment.read_bytes()

    line = servers.start(data_dir=copy).refusal()

    assert str(segment) in line
    assert segment.read_bytes() == before


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_in_the_middle_is_told_with_file_and_place_and_nothing_is_cut_off(
    servers: Servers, copy: Path, log_end: int, place: float, bit: int
) -> None:
    segment = segment_of(copy)
    data = bytearray(segment.read_bytes())
    offset = int(log_end * place)
    data[offset] ^= 1 << bit
    segment.write_bytes(data)

    line = servers.start(data_dir=copy).refusal()

    found = re.fullmatch(rf"{re.escape(str(segment))} at byte (\d+): (.+); nothing was changed", line)
    assert found is not None, line
    assert 0 <= offset - int(found[1]) < 400, f"the bit flipped at {offset}: {line}"
    assert segment.read_bytes() == data


@pytest.mark.parametrize("offset", [0, 5, 20])
def test_a_damaged_beginning_of_the_log_is_refused(servers: Servers, copy: Path, offset: int) -> None:
    segment = segment_of(copy)
    data = bytearray(segment.read_bytes())
    data[offset] ^= 0xFF
    segment.write_bytes(data)

    line = servers.start(data_dir=copy).refusal()

    assert str(segment) in line
    assert segment.read_bytes() == data


def test_a_log_without_a_single_file_is_refused(servers: Servers, copy: Path) -> None:
    """An empty log would be a member that has forgotten its votes."""
    segment_of(copy).unlink()

    line = servers.start(data_dir=copy).refusal()

    assert "has lost its log" in line
