"""LocalCluster with real server processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from raftkv.lab import state as state_file
from raftkv.lab.cluster import LocalCluster
from raftkv.lab.errors import LabError
from raftkv.lab.probe import NodeAnswer
from raftkv.lab.process import TOKEN_VARIABLE, ProcessRef, processes_with, wait_until
from tests.lab.conftest import KNOWS_PEER_DIAL, SERVER_COMMAND, MakeCluster

NOT_A_SERVER = (sys.executable, "-c", "import sys; print('cannot: no such thing', file=sys.stderr); sys.exit(7)")
NEVER_READY = (sys.executable, "-c", "import time; print('thinking', flush=True); time.sleep(60)")


def test_three_nodes_serve_and_one_leads(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=3)
    leader = cluster.up()

    status = {node.name: node for node in cluster.status()}

    assert list(status) == ["n1", "n2", "n3"]
    assert all(node.state == "running" for node in status.values())
    answers = [node.answer for node in status.values()]
    assert all(isinstance(answer, NodeAnswer) for answer in answers)
    assert [name for name, node in status.items() if isinstance(node.answer, NodeAnswer) and node.answer.leads] == [
        leader
    ]


def test_a_killed_leader_is_replaced_and_comes_back(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=3)
    leader = cluster.up()

    cluster.kill(leader)
    assert cluster.process_state(leader) == "killed"
    assert cluster.wait_for_leader(other_than=leader) != leader
    cluster.start([leader])

    assert cluster.process_state(leader) == "running"
    assert isinstance({node.name: node for node in cluster.status()}[leader].answer, NodeAnswer)


def test_a_paused_node_does_not_answer_until_it_is_resumed(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.start()

    cluster.pause("n1")
    (paused,) = cluster.status(deadline_s=0.2)
    cluster.resume("n1")
    (resumed,) = cluster.status(deadline_s=5)

    assert (paused.state, paused.answer) == ("paused", "no answer in time")
    assert resumed.state == "running"
    assert isinstance(resumed.answer, NodeAnswer)


def test_a_stopped_node_keeps_its_data(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.start()
    before = cluster.status()[0].answer
    pid = cluster.pid("n1")

    cluster.restart("n1")
    after = cluster.status()[0].answer

    assert cluster.pid("n1") not in (pid, None)
    assert isinstance(before, NodeAnswer)
    assert isinstance(after, NodeAnswer)
    assert after.member_id == before.member_id
    assert after.term > before.term


def test_a_process_that_ends_by_itself_has_crashed(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.start()
    pid = cluster.pid("n1")
    assert pid is not None

    os.kill(pid, signal.SIGKILL)

    assert wait_until(lambda: cluster.process_state("n1") == "crashed", 5)
    assert cluster.status()[0].answer == "no process"


def test_a_node_that_fails_to_start_shows_its_status_and_its_last_words(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(command=NOT_A_SERVER)

    with pytest.raises(LabError, match=r"n1 ended with status 7(.|\n)*cannot: no such thing"):
        cluster.start()


def test_a_node_that_is_never_ready_is_given_up_at_the_deadline(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(command=NEVER_READY)

    with pytest.raises(LabError, match=r"n1 is not ready after 0.5 s(.|\n)*thinking"):
        cluster.start(deadline_s=0.5)


def test_a_command_that_is_not_there_is_named(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(command=("no-such-server",))

    with pytest.raises(LabError, match="cannot start n1: no-such-server: No such file"):
        cluster.start()


def test_an_unknown_node_is_told_who_exists(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=3)

    with pytest.raises(LabError, match="no node 'n7' in this cluster; it has n1, n2, n3"):
        cluster.kill("n7")
    with pytest.raises(LabError, match=r"n1 is not running \(not started\)"):
        cluster.kill("n1")


def test_links_cannot_be_cut_without_a_proxy(make_cluster: MakeCluster) -> None:
    with pytest.raises(LabError, match="no proxy"):
        make_cluster(nodes=3).partition("n1|n2,n3")


def test_each_node_has_a_gateway_if_the_cluster_is_made_with_one(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(nodes=3, gateway=True)

    urls = {cluster.http_url(name) for name in cluster.names}
    assert len(urls | {state.client_url for state in cluster.state.nodes.values()}) == 6
    assert len(set(cluster.state.ports)) == 9
    with pytest.raises(LabError, match="no gateway"):
        make_cluster(directory=tmp_path / "without").http_url("n1")


@pytest.mark.parametrize("nodes", [0, 10, -1])
def test_an_absurd_number_of_nodes_is_refused(tmp_path: Path, nodes: int) -> None:
    with pytest.raises(LabError, match=f"1 to 9 nodes, not {nodes}"):
        LocalCluster.create(tmp_path, nodes=nodes)


def test_a_second_cluster_in_the_same_directory_is_refused(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()

    with pytest.raises(LabError, match=r"there is a cluster in .* already"):
        LocalCluster.create(cluster.directory)


def test_data_without_state_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "n1.raftkv").mkdir()

    with pytest.raises(LabError, match="move it away"):
        LocalCluster.create(tmp_path)


def test_a_directory_without_a_cluster_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=f"no cluster in {tmp_path}"):
        LocalCluster.load(tmp_path)


def test_a_state_file_that_is_not_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / state_file.STATE_FILE).write_text('{"format": 99}')

    with pytest.raises(LabError, match=r"cannot understand .*format 99"):
        LocalCluster.load(tmp_path)


def test_clusters_started_at_once_do_not_collide(make_cluster: MakeCluster, tmp_path: Path) -> None:
    clusters = [make_cluster(directory=tmp_path / str(number)) for number in range(4)]

    threads = [threading.Thread(target=cluster.start) for cluster in clusters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [cluster.process_state("n1") for cluster in clusters] == ["running"] * 4
    assert len({port for cluster in clusters for port in cluster.state.ports}) == 8


def test_a_taken_port_is_named_and_nothing_is_started(make_cluster: MakeCluster, tmp_path: Path) -> None:
    first = make_cluster()
    first.start()
    second = make_cluster(directory=tmp_path / "second")
    raw = json.loads((second.directory / state_file.STATE_FILE).read_text())
    port = first.state.nodes["n1"].client_port
    raw["nodes"]["n1"]["client_port"] = port
    (second.directory / state_file.STATE_FILE).write_text(json.dumps(raw))

    with pytest.raises(LabError, match=f"n1 cannot start: port {port} is taken"):
        second.start()

    assert second.pid("n1") is None


def test_a_stale_state_file_never_kills_a_stranger(make_cluster: MakeCluster) -> None:
    """A pid of before the reboot is somebody else's process now."""
    cluster = make_cluster()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        state = cluster.state
        state.nodes["n1"].process = ProcessRef(pid=stranger.pid, started="another-boot:1")
        state_file.save(cluster.directory, state)

        assert cluster.process_state("n1") == "crashed"
        with pytest.raises(LabError, match="not running"):
            cluster.kill("n1")
        cluster.down()

        assert stranger.poll() is None
        stranger.kill()


def test_another_process_can_take_over_and_the_nodes_outlive_the_first(tmp_path: Path) -> None:
    """What ``cluster/local.py`` does: every command is a process of its own."""
    directory = tmp_path / "cluster"
    script = (
        "import sys; from pathlib import Path; from raftkv.lab.cluster import LocalCluster;"
        "LocalCluster.create(Path(sys.argv[1]), nodes=1, proxy=False, command=sys.argv[2:]).start()"
    )
    subprocess.run([sys.executable, "-c", script, str(directory), *SERVER_COMMAND], check=True, timeout=60)

    with LocalCluster.load(directory) as cluster:
        assert cluster.process_state("n1") == "running"
        cluster.kill("n1")
        cluster.start(["n1"])
        assert isinstance(cluster.status()[0].answer, NodeAnswer)
        token = cluster.state.token

    assert not directory.exists()
    assert processes_with(TOKEN_VARIABLE, token) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_leashed_cluster_dies_with_its_parent_however_it_dies(tmp_path: Path, number: signal.Signals) -> None:
    script = (
        "import sys, time; from pathlib import Path; from raftkv.lab.cluster import LocalCluster\n"
        "with LocalCluster.temporary(nodes=1, proxy=False, command=sys.argv[2:], parent=Path(sys.argv[1])) as c:\n"
        "    c.start(); print(c.state.token, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path), *SERVER_COMMAND]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        token = parent.stdout.readline().strip()
        assert processes_with(TOKEN_VARIABLE, token) != []

        parent.send_signal(number)
        parent.wait(20)

    assert wait_until(lambda: processes_with(TOKEN_VARIABLE, token) == [], 10)
    assert wait_until(lambda: list(tmp_path.iterdir()) == [], 10)


def test_down_keeps_data_if_asked_and_the_cluster_starts_again(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.start()
    before = cluster.status()[0].answer

    cluster.down(keep_data=True)
    assert cluster.process_state("n1") == "stopped"
    again = LocalCluster.load(cluster.directory)
    again.start()
    after = again.status()[0].answer
    again.down()

    assert isinstance(before, NodeAnswer)
    assert isinstance(after, NodeAnswer)
    assert after.member_id == before.member_id
    assert not cluster.directory.exists()


def test_down_leaves_files_that_are_not_ours(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    (cluster.directory / "notes.txt").write_text("mine")

    cluster.down()

    assert [path.name for path in cluster.directory.iterdir()] == ["notes.txt"]


@pytest.mark.skipif(not KNOWS_PEER_DIAL, reason="etcd cannot dial its peers through a proxy")
def test_a_leader_cut_off_is_replaced_and_follows_after_healing(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=3, proxy=True)
    old = cluster.up()
    others = [name for name in cluster.names if name != old]

    cluster.partition([[old], others])
    new = cluster.wait_for_leader(other_than=old)
    assert new in others
    assert len(cluster.rules()) == 4
    cluster.heal()

    def all_follow_the_new_leader() -> bool:
        answers = [node.answer for node in cluster.status()]
        return len({a.leader_id for a in answers if isinstance(a, NodeAnswer)} - {0}) == 1 and len(answers) == 3

    assert wait_until(all_follow_the_new_leader, 10)
    assert cluster.rules() == {}
