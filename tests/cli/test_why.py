"""`raftkv why`: from the disks of captured runs, against servers that are no raftkv, and with bad arguments."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Command, Etcd, Outcome
from tests.lab.flights import Book, captured_lines, elect


@pytest.fixture
def data_dirs(tmp_path: Path) -> dict[str, Path]:
    """The data directories of three nodes, whose leader n3 was killed."""
    return dirs_of("kill", tmp_path)


def dirs_of(name: str, path: Path) -> dict[str, Path]:
    found = {}
    for lines in captured_lines(name):
        node = json.loads(lines[0])["name"]
        found[node] = path / name / node
        (found[node] / "flight").mkdir(parents=True)
        (found[node] / "flight" / "0000000000000001.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return found


def from_disks(data_dirs: dict[str, Path], *nodes: str) -> list[str]:
    return [word for node in nodes or data_dirs for word in ("--data-dir", str(data_dirs[node]))]


def error_of(outcome: Outcome, code: int) -> str:
    assert outcome.code == code, outcome
    assert outcome.out == b""
    (line,) = outcome.err.decode().splitlines()
    return line.removeprefix("Error: ")


# --- what it tells ----------------------------------------------------------------------------------------------------


def test_it_tells_the_last_failovers_with_what_led_to_them(raftkv: Command, data_dirs: dict[str, Path]) -> None:
    outcome = raftkv("why", *from_disks(data_dirs))

    text = outcome.out.decode()
    assert outcome.code == 0
    assert text.startswith("records of n1, n2 and n3\n")
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{3}  n3 died; n2 led term 2 after 24 ms$", text, re.M)
    assert re.search(r"^    \d\d:\d\d:\d\d\.\d{3}  n1 and n2 lost n3 \(connection closed, redial refused", text, re.M)
    assert "\x1b" not in text, "colours belong on a terminal"


def test_it_works_without_the_record_of_the_dead(raftkv: Command, data_dirs: dict[str, Path]) -> None:
    text = raftkv("why", *from_disks(data_dirs, "n1", "n2")).out.decode()

    assert "records of n1 and n2\n" in text
    assert "n3 died; n2 led term 2 after 24 ms" in text


def test_last_limits_it_and_says_what_is_left_out(raftkv: Command, data_dirs: dict[str, Path]) -> None:
    text = raftkv("why", "--last", "1", *from_disks(data_dirs)).out.decode()

    assert "the cluster started" not in text
    assert "(1 earlier failover is left out: --last 2 shows all)" in text


def test_since_limits_it_to_what_came_after(raftkv: Command, data_dirs: dict[str, Path]) -> None:
    late = raftkv("why", "--since", "2100-01-01", *from_disks(data_dirs)).out.decode()
    early = raftkv("why", "--since", "2001-01-01T12:30", *from_disks(data_dirs)).out.decode()

    assert "no failover in these records" in late
    assert "the cluster started" in early


def test_all_tells_every_event_under_the_headlines(raftkv: Command, data_dirs: dict[str, Path]) -> None:
    text = raftkv("why", "--all", *from_disks(data_dirs)).out.decode()

    assert "-- n3 died; n2 led term 2 after 24 ms" in text
    assert "  n2 refused n1 a pre-vote for term 2 (it heard n3 30 ms before)" in text
    recorded = sum(len(lines) - 1 for lines in captured_lines("kill"))
    assert len(re.findall(r"^\d\d:\d\d:\d\d\.\d{3}", text, re.M)) == recorded


@pytest.mark.parametrize("flags", [["--json"], ["-w", "json"], ["--write-out=json"]])
def test_json_holds_causes_durations_words_and_events(
    raftkv: Command, data_dirs: dict[str, Path], flags: list[str]
) -> None:
    answer = json.loads(raftkv("why", *flags, *from_disks(data_dirs)).out)

    failover = answer["failovers"][-1]
    assert (failover["cause"], failover["previous"], failover["leader"], failover["term"]) == ("died", "n3", "n2", 2)
    assert failover["outage_ms"] == pytest.approx(24, abs=1)
    assert failover["story"][0]["text"].startswith("n1 and n2 lost n3")
    assert {event["kind"] for event in failover["events"]} >= {"peer", "campaign", "answer", "leader"}
    assert [record["node"] for record in answer["records"]] == ["n1", "n2", "n3"]
    assert "events" not in answer


def test_json_holds_the_whole_timeline_on_request(raftkv: Command, data_dirs: dict[str, Path]) -> None:
    answer = json.loads(raftkv("why", "--json", "--all", *from_disks(data_dirs)).out)

    assert len(answer["events"]) == sum(record["events"] for record in answer["records"])
    assert [event["at"] for event in answer["events"]] == sorted(event["at"] for event in answer["events"])


def test_table_and_fields_hold_a_line_for_each_failover(raftkv: Command, data_dirs: dict[str, Path]) -> None:
    table = raftkv("why", "-w", "table", *from_disks(data_dirs)).out.decode()
    fields = raftkv("why", "-w", "fields", *from_disks(data_dirs)).out.decode()

    assert re.search(r"\|\s+died \|\s+n3 \| n2 \|\s+2 \|\s+24 ms \|", table)
    assert '"Cause" : "died"' in fields
    assert '"Term" : 2' in fields


def test_a_follower_that_was_away_is_told(raftkv: Command, tmp_path: Path) -> None:
    text = raftkv("why", *from_disks(dirs_of("follower", tmp_path))).out.decode()

    assert "n1 died; back after 1.30 s" in text


def test_a_torn_record_is_told_and_its_loss_named(raftkv: Command, data_dirs: dict[str, Path]) -> None:
    segment = data_dirs["n1"] / "flight" / "0000000000000001.jsonl"
    segment.write_bytes(segment.read_bytes()[:-30])

    text = raftkv("why", *from_disks(data_dirs)).out.decode()

    assert "the record of n1 is not whole: 1 line cannot be read" in text
    assert "n3 died; n2 led term 2" in text


def test_clocks_that_disagree_are_told_and_corrected(raftkv: Command, tmp_path: Path) -> None:
    n1, n2, n3 = Book("n1"), Book("n2"), Book("n3", clock_ahead_s=2.0)
    elect(1_000_000.0, 1, n1, n2, n3)
    elect(1_000_010.0, 2, n3, n2, n1, leader="n1", silent_ms=300)
    for book in (n1, n2, n3):
        (tmp_path / book.node / "flight").mkdir(parents=True)
        (tmp_path / book.node / "flight" / "0000000000000001.jsonl").write_bytes(b"\n".join(book.lines) + b"\n")
    arguments = from_disks({book.node: tmp_path / book.node for book in (n1, n2, n3)})

    text = raftkv("why", *arguments).out.decode()
    answer = json.loads(raftkv("why", "--json", *arguments).out)

    assert re.search(r"^clocks disagree: n3's is 2\.00 s ahead of n[12]'s; all times are on n[12]'s$", text, re.M)
    assert answer["failovers"][-1]["led_at"] == pytest.approx(1_000_010.006, abs=0.003)
    assert answer["failovers"][-1]["outage_ms"] == pytest.approx(306, abs=3)


# --- whom it cannot ask -----------------------------------------------------------------------------------------------


def test_nobody_that_answers_is_an_error_that_names_everybody(raftkv: Command, dead_endpoint: str) -> None:
    outcome = raftkv("why", "--endpoints", dead_endpoint)

    assert error_of(outcome, 1) == f"no node answers: {dead_endpoint}: connection refused"


def test_a_node_that_hangs_is_given_up_soon(raftkv: Command, data_dirs: dict[str, Path], silent_endpoint: str) -> None:
    outcome = raftkv("why", "--endpoints", silent_endpoint, *from_disks(data_dirs))

    assert outcome.code == 0
    assert f"no record of {silent_endpoint}: " in outcome.out.decode()


def test_etcd_is_told_apart(raftkv: Command, etcd: Etcd) -> None:
    outcome = raftkv("why", "--endpoints", etcd.endpoint)

    assert error_of(outcome, 1) == (f"{etcd.endpoint}: not a raftkv server, or an old one: it keeps no flight record")


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["why", "n1"], 128, "why command does not accept argument"),
        (["why", "--last", "0"], 2, 'invalid value for --last: "0" is not a number'),
        (["why", "--since", "yesterday"], 2, 'invalid value for --since: "yesterday" is none of 10m, 14:02'),
        (["why", "-w", "protobuf"], 4, "protobuf not supported as output format"),
    ],
)
def test_a_bad_argument_is_named_before_anybody_is_asked(
    raftkv: Command, arguments: list[str], code: int, message: str
) -> None:
    assert error_of(raftkv(*arguments), code).startswith(message)


def test_a_directory_without_a_record_is_named(raftkv: Command, tmp_path: Path) -> None:
    outcome = raftkv("why", "--data-dir", str(tmp_path))

    assert error_of(outcome, 1) == f"{tmp_path} holds no flight record: is it a node's data directory?"


def test_two_directories_of_one_node_are_refused(raftkv: Command, data_dirs: dict[str, Path]) -> None:
    outcome = raftkv("why", *from_disks(data_dirs, "n1", "n1"))

    assert "both hold the record of n1" in error_of(outcome, 1)


def test_nodes_of_different_clusters_are_not_mixed(raftkv: Command, data_dirs: dict[str, Path], tmp_path: Path) -> None:
    others = dirs_of("hang", tmp_path)

    outcome = raftkv("why", *from_disks(data_dirs, "n1"), *from_disks(others, "n2"))

    assert error_of(outcome, 1).startswith("these nodes are of different clusters: n1 is of cluster ")
