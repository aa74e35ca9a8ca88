"""Which RPC a URL means: etcd's table, whole, whether raftkv serves the RPC yet or not.

What may not live here: anything about HTTP but paths, and any handler.

Source: etcd's rpc.proto (google.api.http), 3.4, and of 3.5+ AuthStatus and Downgrade.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from raftkv.pb.services import Method, methods

PREFIXES = ("/v3", "/v3beta")
"""etcd 3.4 serves every route under both."""

_ROUTES: dict[str, dict[str, str]] = {
    "etcdserverpb.KV": {
        "Range": "/kv/range",
        "Put": "/kv/put",
        "DeleteRange": "/kv/deleterange",
        "Txn": "/kv/txn",
        "Compact": "/kv/compaction",
    },
    "etcdserverpb.Watch": {"Watch": "/watch"},
    "etcdserverpb.Lease": {
        "LeaseGrant": "/lease/grant",
        "LeaseRevoke": "/lease/revoke /kv/lease/revoke",
        "LeaseKeepAlive": "/lease/keepalive",
        "LeaseTimeToLive": "/lease/timetolive /kv/lease/timetolive",
        "LeaseLeases": "/lease/leases /kv/lease/leases",
    },
    "etcdserverpb.Cluster": {
        "MemberAdd": "/cluster/member/add",
        "MemberRemove": "/cluster/member/remove",
        "MemberUpdate": "/cluster/member/update",
        "MemberList": "/cluster/member/list",
        "MemberPromote": "/cluster/member/promote",
    },
    "etcdserverpb.Maintenance": {
        "Alarm": "/maintenance/alarm",
        "Status": "/maintenance/status",
        "Defragment": "/maintenance/defragment",
        "Hash": "/maintenance/hash",
        "HashKV": "/maintenance/hashkv",
        "Snapshot": "/maintenance/snapshot",
        "MoveLeader": "/maintenance/transfer-leadership",
        "Downgrade": "/maintenance/downgrade",
    },
    "etcdserverpb.Auth": {
        "AuthEnable": "/auth/enable",
        "AuthDisable": "/auth/disable",
        "AuthStatus": "/auth/status",
        "Authenticate": "/auth/authenticate",
        "UserAdd": "/auth/user/add",
        "UserGet": "/auth/user/get",
        "UserList": "/auth/user/list",
        "UserDelete": "/auth/user/delete",
        "UserChangePassword": "/auth/user/changepw",
        "UserGrantRole": "/auth/user/grant",
        "UserRevokeRole": "/auth/user/revoke",
        "RoleAdd": "/auth/role/add",
        "RoleGet": "/auth/role/get",
        "RoleList": "/auth/role/list",
        "RoleDelete": "/auth/role/delete",
        "RoleGrantPermission": "/auth/role/grant",
        "RoleRevokePermission": "/auth/role/revoke",
    },
    "v3lockpb.Lock": {"Lock": "/lock/lock", "Unlock": "/lock/unlock"},
    "v3electionpb.Election": {
        "Campaign": "/election/campaign",
        "Proclaim": "/election/proclaim",
        "Leader": "/election/leader",
        "Observe": "/election/observe",
        "Resign": "/election/resign",
    },
}


def routes() -> Mapping[str, Method]:
    """URL path to RPC."""
    known = methods()
    return MappingProxyType(
        {
            prefix + path: known[service][name]
            for service, of_service in _ROUTES.items()
            for name, paths in of_service.items()
            for path in paths.split()
            for prefix in PREFIXES
        }
    )
