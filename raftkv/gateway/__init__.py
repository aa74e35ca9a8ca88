"""etcd's JSON gateway: the gRPC API over HTTP/1, and what monitors ask, on `--listen-client-http-urls`.

      curl, etcd3gw, Patroni                       monitors, Prometheus
           │ POST /v3/kv/range {"key":…}                │ GET /health /livez /readyz /version /metrics
           ▼                                            ▼
      door.py         one aiohttp server in the node's loop; opened and closed with the clients' gRPC port
           ▼                                            ▼
      rpc.py          JSON to a request, answer to JSON  probes.py
           ▼
      grpc.GenericRpcHandler                        the very handlers that the gRPC server has, called in the process

There is no second implementation of any method and no table of them: a service that the gRPC server serves is served here
as soon as `routes.py` knows its path, and the routes are etcd's, all of them. A handler gets a `JsonCall` (`call.py`) where it
would get gRPC's context.

Shapes, texts and codes are etcd 3.4's, down to what Go says of malformed JSON (`go_json.py`, `messages.py`). `/livez` and
`/readyz` are those of etcd 3.5.11 and later.

Everything is bounded: a request body by the largest request (in JSON at most twice its size), headers by aiohttp's limits, a
client that reads a stream slowly by its socket's buffer, behind which the method waits. A client that goes away takes its call
with it.

What may not live here: what any method does, and what is measured (`raftkv.metrics`).

Not done: no TLS; no `Trailer` headers; `X-HTTP-Method-Override` is not looked at; a path that Go's mux would clean up (`//v3`)
is answered 404, not 301; the number of connections is bounded by the process's file descriptors alone.
"""

from __future__ import annotations

from raftkv.gateway.door import client_door, metrics_door
from raftkv.gateway.probes import Probes

__all__ = ["Probes", "client_door", "metrics_door"]
