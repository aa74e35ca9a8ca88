"""Which gRPC serves clients, and that they cannot tell."""

from __future__ import annotations

import pytest

from raftkv.pb import rpc_pb2
from raftkv.server.front import CHOICE
from tests.server.grpc_api import Api
from tests.server.process import Servers
from tests.server.watching import watching


@pytest.mark.parametrize("choice", ["yes", "no", ""])
def test_both_serve_unary_calls_and_streams(servers: Servers, choice: str) -> None:
    api = Api(servers.start(environment={CHOICE: choice}).ready().endpoint)

    put = api.call("etcdserverpb.KV", "Put", rpc_pb2.PutRequest(key=b"a", value=b"1"))
    with watching(api) as stream:
        assert stream.created(b"a").created

    assert put.header.revision == 2
    api.close()


def test_a_choice_that_is_none_is_named(servers: Servers) -> None:
    assert servers.start(environment={CHOICE: "perhaps"}).refusal(2) == (
        "NATIVE_GRPC: 'perhaps'; allowed are yes, no, and nothing at all"
    )
