"""Captures of etcdctl 3.4.23, format by format; no server needed."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.cli.exits import Exit, Failure
from raftkv.cli.printers import EndpointHash, EndpointHealth, EndpointStatus, Style, render
from raftkv.cli.printers.as_json import json_line, message_as_json
from raftkv.cli.printers.table import draw, wrap
from raftkv.pb import rpc_pb2
from raftkv.pb.mvcc_pb2 import KeyValue

HEADER = rpc_pb2.ResponseHeader(cluster_id=4696313804825311451, member_id=9686845212206760991, revision=6, raft_term=2)
PAIR = KeyValue(key=b"a", create_revision=6, mod_revision=6, version=1, value=b"b")
MEMBERS = rpc_pb2.MemberListResponse(
    header=rpc_pb2.ResponseHeader(cluster_id=4696313804825311451, member_id=9686845212206760991, raft_term=2),
    members=[
        rpc_pb2.Member(
            ID=9686845212206760991,
            name="g1",
            peerURLs=["http://127.0.0.1:52380"],
            clientURLs=["http://127.0.0.1:52379"],
        )
    ],
)
STATUS = [
    EndpointStatus(
        endpoint="127.0.0.1:52379",
        response=rpc_pb2.StatusResponse(
            header=rpc_pb2.ResponseHeader(
                cluster_id=4696313804825311451, member_id=9686845212206760991, revision=3, raft_term=2
            ),
            version="3.4.23",
            dbSize=32768,
            leader=9686845212206760991,
            raftIndex=11,
            raftTerm=2,
            raftAppliedIndex=11,
            dbSizeInUse=24576,
        ),
    )
]
HEALTH = [
    EndpointHealth(endpoint="127.0.0.1:52379", took_s=0.002482891),
    EndpointHealth(endpoint="127.0.0.1:46391", took_s=0.300896089, error="context deadline exceeded"),
]
HASH = [EndpointHash(endpoint="127.0.0.1:52379", response=rpc_pb2.HashKVResponse(header=HEADER, hash=3234669807))]

CAPTURES: list[tuple[str, str, Any, str]] = [
    ("simple", "put", rpc_pb2.PutResponse(header=HEADER), "OK\n"),
    ("simple", "put", rpc_pb2.PutResponse(header=HEADER, prev_kv=PAIR), "OK\na\nb\n"),
    ("simple", "get", rpc_pb2.RangeResponse(header=HEADER, kvs=[PAIR, PAIR], count=2), "a\nb\na\nb\n"),
    ("simple", "delete", rpc_pb2.DeleteRangeResponse(header=HEADER, deleted=1, prev_kvs=[PAIR]), "1\na\nb\n"),
    (
        "json",
        "put",
        rpc_pb2.PutResponse(header=HEADER),
        '{"header":{"cluster_id":4696313804825311451,"member_id":9686845212206760991,"revision":6,"raft_term":2}}\n',
    ),
    (
        "json",
        "get",
        rpc_pb2.RangeResponse(header=HEADER, kvs=[PAIR], count=1),
        (
            '{"header":{"cluster_id":4696313804825311451,"member_id":9686845212206760991,"revision":6,"raft_term":2},'
            '"kvs":[{"key":"YQ==","create_revision":6,"mod_revision":6,"version":1,"value":"Yg=="}],"count":1}\n'
        ),
    ),
    (
        "fields",
        "get",
        rpc_pb2.RangeResponse(header=HEADER, kvs=[PAIR], count=1),
        (
            '"ClusterID" : 4696313804825311451\n"MemberID" : 9686845212206760991\n"Revision" : 6\n"RaftTerm" : 2\n'
            '"Key" : "a"\n"CreateRevision" : 6\n"ModRevision" : 6\n"Version" : 1\n"Value" : "b"\n"Lease" : 0\n'
            '"More" : false\n"Count" : 1\n'
        ),
    ),
    (
        "simple",
        "txn",
        rpc_pb2.TxnResponse(responses=[rpc_pb2.ResponseOp(response_put=rpc_pb2.PutResponse())]),
        "FAILURE\n\nOK\n",
    ),
    (
        "simple",
        "endpoint_status",
        STATUS,
        "127.0.0.1:52379, 866e9665bbc7041f, 3.4.23, 33 kB, true, false, 2, 11, 11, \n",
    ),
    (
        "table",
        "endpoint_status",
        STATUS,
        """\
+-----------------+------------------+---------+---------+-----------+------------+-----------+------------+--------------------+--------+
|    ENDPOINT     |        ID        | VERSION | DB SIZE | IS LEADER | IS LEARNER | RAFT TERM | RAFT INDEX | RAFT APPLIED INDEX | ERRORS |
+-----------------+------------------+---------+---------+-----------+------------+-----------+------------+--------------------+--------+
| 127.0.0.1:52379 | 866e9665bbc7041f |  3.4.23 |   33 kB |      true |      false |         2 |         11 |                 11 |        |
+-----------------+------------------+---------+---------+-----------+------------+-----------+------------+--------------------+--------+
""",
    ),
    (
        "table",
        "endpoint_status",
        [],
        """\
+----------+----+---------+---------+-----------+------------+-----------+------------+--------------------+--------+
| ENDPOINT | ID | VERSION | DB SIZE | IS LEADER | IS LEARNER | RAFT TERM | RAFT INDEX | RAFT APPLIED INDEX | ERRORS |
+----------+----+---------+---------+-----------+------------+-----------+------------+--------------------+--------+
+----------+----+---------+---------+-----------+------------+-----------+------------+--------------------+--------+
""",
    ),
    (
        "json",
        "endpoint_status",
        STATUS,
        (
            '[{"Endpoint":"127.0.0.1:52379","Status":{"header":{"cluster_id":4696313804825311451,'
            '"member_id":9686845212206760991,"revision":3,"raft_term":2},"version":"3.4.23","dbSize":32768,'
            '"leader":9686845212206760991,"raftIndex":11,"raftTerm":2,"raftAppliedIndex":11,"dbSizeInUse":24576}}]\n'
        ),
    ),
    (
        "fields",
        "endpoint_status",
        STATUS,
        (
            '"ClusterID" : 4696313804825311451\n"MemberID" : 9686845212206760991\n"Revision" : 3\n"RaftTerm" : 2\n'
            '"Version" : "3.4.23"\n"DBSize" : 32768\n"Leader" : 9686845212206760991\n"IsLearner" : false\n'
            '"RaftIndex" : 11\n"RaftTerm" : 2\n"RaftAppliedIndex" : 11\n"Errors" : []\n"Endpoint" : "127.0.0.1:52379"\n\n'
        ),
    ),
    (
        "simple",
        "endpoint_health",
        HEALTH,
        "127.0.0.1:52379 is healthy: successfully committed proposal: took = 2.482891ms\n",
    ),
    (
        "table",
        "endpoint_health",
        HEALTH,
        """\
+-----------------+--------+--------------+---------------------------+
|    ENDPOINT     | HEALTH |     TOOK     |           ERROR           |
+-----------------+--------+--------------+---------------------------+
| 127.0.0.1:52379 |   true |   2.482891ms |                           |
| 127.0.0.1:46391 |  false | 300.896089ms | context deadline exceeded |
+-----------------+--------+--------------+---------------------------+
""",
    ),
    (
        "json",
        "endpoint_health",
        HEALTH,
        (
            '[{"endpoint":"127.0.0.1:52379","health":true,"took":"2.482891ms"},'
            '{"endpoint":"127.0.0.1:46391","health":false,"took":"300.896089ms","error":"context deadline exceeded"}]\n'
        ),
    ),
    (
        "fields",
        "endpoint_health",
        HEALTH[:1],
        '"Endpoint" : "127.0.0.1:52379"\n"Health" : true\n"Took" : 2.482891ms\n"Error" : \n\n',
    ),
    ("simple", "endpoint_hashkv", HASH, "127.0.0.1:52379, 3234669807\n"),
    (
        "simple",
        "member_list",
        MEMBERS,
        "866e9665bbc7041f, started, g1, http://127.0.0.1:52380, http://127.0.0.1:52379, false\n",
    ),
    (
        "simple",
        "member_list",
        rpc_pb2.MemberListResponse(members=[rpc_pb2.Member(ID=255, peerURLs=["http://a:1", "http://b:2"])]),
        "ff, unstarted, , http://a:1,http://b:2, , false\n",
    ),
    (
        "table",
        "member_list",
        MEMBERS,
        """\
+------------------+---------+------+------------------------+------------------------+------------+
|        ID        | STATUS  | NAME |       PEER ADDRS       |      CLIENT ADDRS      | IS LEARNER |
+------------------+---------+------+------------------------+------------------------+------------+
| 866e9665bbc7041f | started |   g1 | http://127.0.0.1:52380 | http://127.0.0.1:52379 |      false |
+------------------+---------+------+------------------------+------------------------+------------+
""",
    ),
    (
        "json",
        "member_list",
        MEMBERS,
        (
            '{"header":{"cluster_id":4696313804825311451,"member_id":9686845212206760991,"raft_term":2},'
            '"members":[{"ID":9686845212206760991,"name":"g1","peerURLs":["http://127.0.0.1:52380"],'
            '"clientURLs":["http://127.0.0.1:52379"]}]}\n'
        ),
    ),
]


@pytest.mark.parametrize(("write_out", "kind", "answer", "expected"), CAPTURES)
def test_an_answer_is_printed_as_etcdctl_prints_it(write_out: str, kind: str, answer: Any, expected: str) -> None:
    assert render(write_out, kind, Style())(answer) == expected.encode()


@pytest.mark.parametrize(
    ("write_out", "kind"), [("table", "get"), ("table", "put"), ("table", "txn"), ("protobuf", "endpoint_status")]
)
def test_a_format_that_a_command_lacks_is_refused_by_name(write_out: str, kind: str) -> None:
    with pytest.raises(Failure, match=f"^{write_out} not supported as output format$") as refusal:
        render(write_out, kind, Style())
    assert refusal.value.exit_code == Exit.NOT_SUPPORTED


def test_bytes_that_are_not_text_come_out_as_they_are() -> None:
    answer = rpc_pb2.RangeResponse(kvs=[KeyValue(key=b"\xff\n", value=b"\x00\xfe")])
    assert render("simple", "get", Style())(answer) == b"\xff\n\n\x00\xfe\n"
    assert render("simple", "get", Style(hex=True))(answer) == b"\\xff\\x0a\n\\x00\\xfe\n"
    assert render("simple", "get", Style(value_only=True))(answer) == b"\x00\xfe\n"
    assert render("simple", "get", Style(count_only=True))(rpc_pb2.RangeResponse(count=7)) == b"7\n"
    assert render("protobuf", "get", Style())(answer) == answer.SerializeToString()


def test_a_wrapped_cell_makes_its_column_thirty_wide() -> None:
    """Captured: the errors of a server that is out of space."""
    assert draw(["ID", "ERRORS"], [["1", "memberID:11586430640873106481 alarm:NOSPACE "]]).decode() == (
        "+----+--------------------------------+\n"
        "| ID |             ERRORS             |\n"
        "+----+--------------------------------+\n"
        "|  1 |  memberID:11586430640873106481 |\n"
        "|    |                 alarm:NOSPACE  |\n"
        "+----+--------------------------------+\n"
    )


def test_a_long_cell_is_wrapped_at_thirty_columns_with_the_least_raggedness() -> None:
    assert wrap("") == [""]
    assert wrap("no-space-" * 6) == ["no-space-" * 6]
    assert wrap("memberID:9686845212206760991 alarm:NOSPACE ") == ["memberID:9686845212206760991", "alarm:NOSPACE "]
    assert wrap("aaa bb cc ddddd", 6) == ["aaa", "bb cc", "ddddd"]  # The textbook case where greedy is worse.


def test_json_has_declared_order_plain_numbers_and_no_defaults() -> None:
    answer = rpc_pb2.RangeResponse(
        header=rpc_pb2.ResponseHeader(cluster_id=4696313804825311451, raft_term=2),
        kvs=[KeyValue(key=b"a", create_revision=6, mod_revision=6, version=1, value=b"b"), KeyValue(key=b"")],
        count=1,
    )
    assert json_line(message_as_json(answer)) == (
        b'{"header":{"cluster_id":4696313804825311451,"raft_term":2},"kvs":[{"key":"YQ==","create_revision":6,'
        b'"mod_revision":6,"version":1,"value":"Yg=="},{}],"count":1}\n'
    )


def test_json_of_a_oneof_is_gos_interface() -> None:
    operation = rpc_pb2.ResponseOp(response_put=rpc_pb2.PutResponse(header=rpc_pb2.ResponseHeader(revision=7)))
    assert message_as_json(operation) == {"Response": {"ResponsePut": {"header": {"revision": 7}}}}


def test_json_escapes_html_as_go_does() -> None:
    assert json_line(["<a>&é\u2028"]) == '["\\u003ca\\u003e\\u0026é\\u2028"]\n'.encode()
