"""Every RPC by the path it has on the wire, for the server that registers it and the client that calls it.

The message packages carry a prefix of our own (`raftkv.etcdserverpb`), so that one process can hold raftkv and another
etcd client. Package names are not on the wire, but service paths are: a service that etcd defines keeps etcd's path
(`/etcdserverpb.KV/Range`), one of ours keeps its full name (`/raftkv.store.Store/Batches`). The table is derived from the
descriptors, so it can never disagree with the proto files.

What may not live here: anything that imports gRPC, and any handler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from raftkv.pb import drill_pb2, election_pb2, flight_pb2, lock_pb2, peer_pb2, rpc_pb2, store_pb2

OUR_PREFIX = "raftkv."
OUR_SERVICES = frozenset({"raftkv.store.Store", "raftkv.peer.Peer", "raftkv.drill.Drill", "raftkv.flight.Flight"})
_FILES = (rpc_pb2, lock_pb2, election_pb2, store_pb2, peer_pb2, flight_pb2, drill_pb2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One RPC.

    Attributes:
        service: the service's name on the wire, `etcdserverpb.KV`.
        name: `Range`.
        path: what stands in HTTP/2's `:path`, `/etcdserverpb.KV/Range`.
        request_type: class of the request messages.
        response_type: class of the response messages.
        client_streaming: the client sends a stream of requests.
        server_streaming: the server sends a stream of responses.
    """

    service: str
    name: str
    path: str
    request_type: type[Message]
    response_type: type[Message]
    client_streaming: bool
    server_streaming: bool


@cache
def methods() -> Mapping[str, Mapping[str, Method]]:
    """The methods of every service: `methods()["etcdserverpb.KV"]["Range"]`, in the order of the proto files."""
    services: dict[str, Mapping[str, Method]] = {}
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            name = wire_name(service)
            services[name] = MappingProxyType({m.name: _method(name, m) for m in service.methods})
    return MappingProxyType(services)


def wire_name(service: ServiceDescriptor) -> str:
    """The service's name in RPC paths: etcd's own name for a service of etcd."""
    full_name: str = service.full_name
    return full_name if full_name in OUR_SERVICES else full_name.removeprefix(OUR_PREFIX)


def _method(service: str, method: MethodDescriptor) -> Method:
    return Method(
        service=service,
        name=method.name,
        path=f"/{service}/{method.name}",
        request_type=GetMessageClass(method.input_type),
        response_type=GetMessageClass(method.output_type),
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
    )
