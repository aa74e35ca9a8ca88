"""What is read and said as JSON: every shape of request, right and wrong, asked of etcd too."""

from __future__ import annotations

import json

import pytest

from tests.gateway.http import Both, Http, b64, shape

KEY = b64(b"json/key")


@pytest.fixture(scope="module")
def _a_key(ours: Http, theirs: Http) -> None:
    """At the same revision of both."""
    Both(ours, theirs).level()
    for http in (ours, theirs):
        http.put_key(b"json/key", b"bar")


RIGHT = {
    "camel case": f'{{"key":"{KEY}","sortOrder":"DESCEND","keysOnly":true}}',
    "camel case wins": f'{{"key":"{KEY}","sortOrder":"ASCEND","sort_order":"bad"}}',
    "unknown fields": f'{{"key":"{KEY}","nope":1,"never":{{"a":[]}}}}',
    "numbers": f'{{"key":"{KEY}","limit":1,"revision":0}}',
    "numbers as strings": f'{{"key":"{KEY}","limit":"1","revision":" 0 "}}',
    "null": f'{{"key":"{KEY}","limit":null,"sort_order":null,"serializable":null}}',
    "null as a string": f'{{"key":"{KEY}","limit":"null"}}',
    "enum by number": f'{{"key":"{KEY}","sort_order":2,"sort_target":"MOD"}}',
    "bytes as numbers": '{"key":[106,115,111,110,47,107,101,121]}',
    "base64 with newlines": f'{{"key":"{KEY[:4]}\\n{KEY[4:]}\\r\\n","range_end":"aw=\\n=\\n"}}',
    "escaped base64": f'{{"key":"\\u{ord(KEY[0]):04x}{KEY[1:]}"}}',
    "a field twice": f'{{"key":"AAAA","key":"{KEY}"}}',
    "something behind it": f'{{"key":"{KEY}"}} trailing',
    "a brace behind it": f'{{"key":"{KEY}"}}}}',
    "space": f' \n\t{{ "key" : "{KEY}" }} \r\n',
}


@pytest.mark.usefixtures("_a_key")
@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT.keys())
def test_a_request_is_understood_as_etcd_understands_it(both: Both, text: str) -> None:
    answer = both.post("/v3/kv/range", text)

    assert answer.json["kvs"][0]["value" if "keysOnly" not in text else "key"]
    assert answer.headers["grpc-metadata-content-type"] == "application/grpc"


WRONG = [
    "", "   ", "null", "{}", "[]", "5", '"x"', "true", "{", "[", '{"a', '{"a"', '{"key":', '{"key":"a', '{"key":"a"',
    '{"key":"a",', "nul", "tru", "-", "{b", "'", "{'key':1}", '{"key"}', '{"key":}', '{"key" 1}', '{"key":"YQ==",}',
    '{"key":"YQ==" "a":1}', '{"key":"YQ==";}', '{"key":NaN}', '{"key":Infinity}', '{"key":-Infinity}', '{"limit":01}',
    '{"limit":-}', '{"limit":-a}', '{"limit":1.}', '{"limit":1.a}', '{"limit":1e}', '{"limit":1e+}', '{"limit":+1}',
    '{"limit":.5}', '{"limit":1_0}', '{"limit":0x1}', "1.", "1.x", "-x", '{"key":"\\x"}', '{"key":"\\', '{"key":"\\u00zz"}',
    '{"key":"\\u12', '{"key":"a\tb"}', '{"key":"a\nb"}', '{"key":tru}', '{"key":falze}', '{"key":nulL}', "é", "[1 2]",
    "[1,]", "[,]", "[1", '{"a":[1,{"b":2 3}]}', '{"a":[{"b":2} 3]}', '{"a":{"b":[1]} 2}', '{"a":"}" 2}', '{"a":1]', "[1}",
    '{"key":"\x7f" \x7f}', '{,}', '{"a":1,,}', "\x00", "/* */{}", '{"a":tr',
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_malformed_json_is_refused_in_etcds_words(both: Both, text: str) -> None:
    assert both.post("/v3/kv/range", text).status == 400


@pytest.mark.parametrize(
    "raw", [b"\xff", b'{"key":\xff}', b'{"\xff":1', b"\xc3\xa9", b"{\xe2\x82\xac", b"\xef\xbb\xbf{}"]
)
def test_what_is_not_even_text_is_refused_in_etcds_words(both: Both, raw: bytes) -> None:
    assert both.post("/v3/kv/range", raw).status == 400


MISFITS = [
    *(f'{{"limit":{value}}}' for value in ('"x"', "1.5", '"1.5"', "1e0", "true", "{}", "[]", '""', '"1 2"', '"true"')),
    *(f'{{"limit":{value}}}' for value in ("9223372036854775808", '"99999999999999999999"', "-9223372036854775809")),
    *(f'{{"key":"{value}"}}' for value in ("Zm9", "Zm9v=", "Zm9v==", "Zm_v", "Zm 9v", "@@@@", "Z", "Zg=", "Zg=a", "Zg==a", "=")),
    *(f'{{"key":"{value}"}}' for value in ("Zg=\\n", "Zg==\\nZg==", "Zm9=x", "\\nZ\\n", "é", "Zmé")),
    *(f'{{"key":{value}}}' for value in ("5", "{}", "true", '["Zm9v"]', "[256]", "[-1]", "[1.5]", "[{}]")),
    *(f'{{"serializable":{value}}}' for value in ('"true"', "1", "{}", "[]")),
    *(f'{{"sort_order":{value}}}' for value in ('"descend"', '"2"', "2.5", "true", "[]", "4294967296", '""')),
]  # fmt: skip


@pytest.mark.parametrize("text", MISFITS)
def test_a_value_of_the_wrong_type_is_refused_in_etcds_words(both: Both, text: str) -> None:
    assert both.post("/v3/kv/range", text).status == 400


TXNS = [
    '{"compare":5}', '{"compare":{}}', '{"compare":[5]}', '{"success":[{"request_put":5}]}', '{"success":[{"request_put":null}]}',
    '{"success":[{"request_nope":{"key":"YQ=="}}]}', '{"success":null,"failure":[{}],"compare":[{"target":"MOD"}]}', '{"success":[{"request_range":{}}]}',
    '{"compare":[{"target":"LEASE","key":"YQ==","lease":"x"}]}', '{"compare":[{"target":"XX"}]}', '{"success":"x"}',
    '{"compare":[{"key":"YQ==","value":3}]}', '{"success":[[]]}',
]  # fmt: skip


@pytest.mark.parametrize("text", TXNS)
def test_a_wrong_txn_is_refused_in_etcds_words(both: Both, text: str) -> None:
    assert both.post("/v3/kv/txn", text).status == 400


def test_messages_of_other_calls_name_their_own_types(both: Both) -> None:
    both.post("/v3/maintenance/alarm", '{"alarm":"FIRE"}')
    both.post("/v3/cluster/member/add", '{"peerURLs":[5]}')
    both.post("/v3/cluster/member/add", '{"peerURLs":"http://x"}')
    both.post("/v3/cluster/member/remove", '{"ID":"-1"}')
    both.post("/v3/auth/role/grant", '{"name":"r","perm":{"permType":"X"}}')
    both.post("/v3/kv/compaction", '{"revision":"1","physical":0}')


def test_json_that_is_nested_beyond_measure_is_refused(both: Both) -> None:
    answer = both.ours.post("/v3/kv/range", "[" * 200_000)
    deep = both.ours.post("/v3/kv/txn", '{"success":[{"request_txn":' * 5000 + "{}" + "}]}" * 5000)

    assert (answer.status, answer.json["message"]) == (400, "exceeded max depth")
    assert deep.status in (400, 500)
    assert both.ours.get("/health").status == 200


# --- KV ---------------------------------------------------------------------------------------------------------------


def test_every_kv_route_answers_as_etcd_does_under_both_prefixes(both: Both) -> None:
    a, b = b64(b"kv/a"), b64(b"kv/b")
    end = b64(b"kv0")
    for prefix in ("/v3", "/v3beta"):
        both.post(f"{prefix}/kv/put", {"key": a, "value": b64(b"1")})
        both.post(f"{prefix}/kv/put", {"key": a, "value": b64(b"2"), "prev_kv": True})
        both.post(f"{prefix}/kv/put", {"key": b})
        both.post(f"{prefix}/kv/range", {"key": b64(b"kv/"), "range_end": end})
        both.post(f"{prefix}/kv/range", {"key": b64(b"kv/"), "range_end": end, "limit": "1", "sort_order": "DESCEND"})
        both.post(f"{prefix}/kv/range", {"key": b64(b"kv/"), "range_end": end, "count_only": True})
        both.post(f"{prefix}/kv/range", {"key": b64(b"missing")})
        answer = both.post(
            f"{prefix}/kv/txn",
            {
                "compare": [{"target": "VERSION", "key": b, "version": "0", "result": "GREATER"}],
                "success": [
                    {"request_put": {"key": b, "value": b64(b"\x00\xff")}},
                    {"requestRange": {"key": b}},
                    {"request_delete_range": {"key": a, "prev_kv": True}},
                    {"request_txn": {"success": [{"request_range": {"key": b}}]}},
                ],
            },
        )
        assert answer.json["succeeded"] is True
        both.post(f"{prefix}/kv/deleterange", {"key": b, "prev_kv": True})
        revision = both.post(f"{prefix}/kv/deleterange", {"key": b}).json["header"]["revision"]
        both.post(f"{prefix}/kv/compaction", {"revision": revision})
        both.post(f"{prefix}/kv/compaction", {"revision": revision})
        both.post(f"{prefix}/kv/range", {"key": a, "revision": "1"})
        both.post(f"{prefix}/kv/range", {"key": a, "revision": "1000000"})


def test_errors_of_the_methods_have_etcds_codes_and_statuses(both: Both) -> None:
    statuses = [
        both.post("/v3/kv/put", {"key": ""}).status,
        both.post("/v3/kv/put", {"key": "YQ==", "lease": "7"}).status,
        both.post("/v3/kv/put", {"key": b64(b"none"), "ignore_value": True}).status,
        both.post("/v3/kv/txn", {"success": [{"request_put": {"key": "YQ=="}}] * 200}).status,
        both.post("/v3/cluster/member/remove", {"ID": "1"}).status,
        both.post("/v3/cluster/member/add", {"peerURLs": []}).status,
        both.post("/v3/cluster/member/promote", {"ID": "1"}).status,
    ]
    assert statuses == [400, 404, 400, 400, 404, 400, 404]


def test_members_and_status_have_etcds_shape(both: Both) -> None:
    for path in ("/v3/cluster/member/list", "/v3/maintenance/status"):
        ours, theirs = (http.post(path, {}) for http in (both.ours, both.theirs))
        assert ours.status == theirs.status == 200
        ours_shape, theirs_shape = shape(ours.json), shape(theirs.json)
        assert set(theirs_shape) <= set(ours_shape)
        assert {key: ours_shape[key] for key in theirs_shape} == theirs_shape, json.dumps(ours.json)
