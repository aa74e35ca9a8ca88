"""What /metrics of a raftkv node and of etcd say."""

from __future__ import annotations

from tests.gateway.conftest import both as both
from tests.gateway.conftest import cluster as cluster
from tests.gateway.conftest import etcd_endpoint as etcd_endpoint
from tests.gateway.conftest import ours as ours
from tests.gateway.conftest import over_grpc as over_grpc
from tests.gateway.conftest import theirs as theirs
