from raftkv.pb import rpc_pb2 as _rpc_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Command(_message.Message):
    __slots__ = ("put", "delete_range", "txn", "compaction", "publish", "range", "member_update", "lease_grant", "lease_revoke", "lease_renew", "clock_advance", "open_session", "alarm", "session", "sequence", "settled_below")
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    TXN_FIELD_NUMBER: _ClassVar[int]
    COMPACTION_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    MEMBER_UPDATE_FIELD_NUMBER: _ClassVar[int]
    LEASE_GRANT_FIELD_NUMBER: _ClassVar[int]
    LEASE_REVOKE_FIELD_NUMBER: _ClassVar[int]
    LEASE_RENEW_FIELD_NUMBER: _ClassVar[int]
    CLOCK_ADVANCE_FIELD_NUMBER: _ClassVar[int]
    OPEN_SESSION_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SETTLED_BELOW_FIELD_NUMBER: _ClassVar[int]
    put: _rpc_pb2.PutRequest
    delete_range: _rpc_pb2.DeleteRangeRequest
    txn: _rpc_pb2.TxnRequest
    compaction: _rpc_pb2.CompactionRequest
    publish: _rpc_pb2.Member
    range: _rpc_pb2.RangeRequest
    member_update: _rpc_pb2.MemberUpdateRequest
    lease_grant: _rpc_pb2.LeaseGrantRequest
    lease_revoke: _rpc_pb2.LeaseRevokeRequest
    lease_renew: _rpc_pb2.LeaseKeepAliveRequest
    clock_advance: ClockAdvance
    open_session: OpenSessionRequest
    alarm: AlarmChange
    session: int
    sequence: int
    settled_below: int
    def __init__(self, put: _Optional[_Union[_rpc_pb2.PutRequest, _Mapping]] = ..., delete_range: _Optional[_Union[_rpc_pb2.DeleteRangeRequest, _Mapping]] = ..., txn: _Optional[_Union[_rpc_pb2.TxnRequest, _Mapping]] = ..., compaction: _Optional[_Union[_rpc_pb2.CompactionRequest, _Mapping]] = ..., publish: _Optional[_Union[_rpc_pb2.Member, _Mapping]] = ..., range: _Optional[_Union[_rpc_pb2.RangeRequest, _Mapping]] = ..., member_update: _Optional[_Union[_rpc_pb2.MemberUpdateRequest, _Mapping]] = ..., lease_grant: _Optional[_Union[_rpc_pb2.LeaseGrantRequest, _Mapping]] = ..., lease_revoke: _Optional[_Union[_rpc_pb2.LeaseRevokeRequest, _Mapping]] = ..., lease_renew: _Optional[_Union[_rpc_pb2.LeaseKeepAliveRequest, _Mapping]] = ..., clock_advance: _Optional[_Union[ClockAdvance, _Mapping]] = ..., open_session: _Optional[_Union[OpenSessionRequest, _Mapping]] = ..., alarm: _Optional[_Union[AlarmChange, _Mapping]] = ..., session: _Optional[int] = ..., sequence: _Optional[int] = ..., settled_below: _Optional[int] = ...) -> None: ...

class SessionRecord(_message.Message):
    __slots__ = ("used_at_ms", "settled_below", "sequences", "checks", "revisions", "answers")
    USED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    SETTLED_BELOW_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    used_at_ms: int
    settled_below: int
    sequences: _containers.RepeatedScalarFieldContainer[int]
    checks: _containers.RepeatedScalarFieldContainer[int]
    revisions: _containers.RepeatedScalarFieldContainer[int]
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    def __init__(self, used_at_ms: _Optional[int] = ..., settled_below: _Optional[int] = ..., sequences: _Optional[_Iterable[int]] = ..., checks: _Optional[_Iterable[int]] = ..., revisions: _Optional[_Iterable[int]] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ...) -> None: ...

class ClockAdvance(_message.Message):
    __slots__ = ("term", "now_ms", "coarse")
    TERM_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    COARSE_FIELD_NUMBER: _ClassVar[int]
    term: int
    now_ms: int
    coarse: bool
    def __init__(self, term: _Optional[int] = ..., now_ms: _Optional[int] = ..., coarse: _Optional[bool] = ...) -> None: ...

class AlarmChange(_message.Message):
    __slots__ = ("request", "by_itself")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    BY_ITSELF_FIELD_NUMBER: _ClassVar[int]
    request: _rpc_pb2.AlarmRequest
    by_itself: bool
    def __init__(self, request: _Optional[_Union[_rpc_pb2.AlarmRequest, _Mapping]] = ..., by_itself: _Optional[bool] = ...) -> None: ...

class AlarmTable(_message.Message):
    __slots__ = ("alarms",)
    class Alarm(_message.Message):
        __slots__ = ("alarm", "by_itself")
        ALARM_FIELD_NUMBER: _ClassVar[int]
        BY_ITSELF_FIELD_NUMBER: _ClassVar[int]
        alarm: _rpc_pb2.AlarmMember
        by_itself: bool
        def __init__(self, alarm: _Optional[_Union[_rpc_pb2.AlarmMember, _Mapping]] = ..., by_itself: _Optional[bool] = ...) -> None: ...
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    alarms: _containers.RepeatedCompositeFieldContainer[AlarmTable.Alarm]
    def __init__(self, alarms: _Optional[_Iterable[_Union[AlarmTable.Alarm, _Mapping]]] = ...) -> None: ...

class MemberChange(_message.Message):
    __slots__ = ("add", "remove", "promote")
    ADD_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    PROMOTE_FIELD_NUMBER: _ClassVar[int]
    add: _rpc_pb2.Member
    remove: int
    promote: int
    def __init__(self, add: _Optional[_Union[_rpc_pb2.Member, _Mapping]] = ..., remove: _Optional[int] = ..., promote: _Optional[int] = ...) -> None: ...

class MemberTable(_message.Message):
    __slots__ = ("members", "removed")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[_rpc_pb2.Member]
    removed: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, members: _Optional[_Iterable[_Union[_rpc_pb2.Member, _Mapping]]] = ..., removed: _Optional[_Iterable[int]] = ...) -> None: ...

class CommandBatch(_message.Message):
    __slots__ = ("origin", "incarnation", "sequence", "settled_below", "commands")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SETTLED_BELOW_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    origin: int
    incarnation: int
    sequence: int
    settled_below: int
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    def __init__(self, origin: _Optional[int] = ..., incarnation: _Optional[int] = ..., sequence: _Optional[int] = ..., settled_below: _Optional[int] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("header", "session", "ttl_ms")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    header: _rpc_pb2.ResponseHeader
    session: int
    ttl_ms: int
    def __init__(self, header: _Optional[_Union[_rpc_pb2.ResponseHeader, _Mapping]] = ..., session: _Optional[int] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class NumberedRequest(_message.Message):
    __slots__ = ("number", "hold_ms", "batch")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HOLD_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    number: int
    hold_ms: int
    batch: bytes
    def __init__(self, number: _Optional[int] = ..., hold_ms: _Optional[int] = ..., batch: _Optional[bytes] = ...) -> None: ...

class NumberedResponse(_message.Message):
    __slots__ = ("number", "response", "failure")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    number: int
    response: bytes
    failure: Failure
    def __init__(self, number: _Optional[int] = ..., response: _Optional[bytes] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("commands",)
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    def __init__(self, commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ...) -> None: ...

class BatchResponse(_message.Message):
    __slots__ = ("header", "answers")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    header: _rpc_pb2.ResponseHeader
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    def __init__(self, header: _Optional[_Union[_rpc_pb2.ResponseHeader, _Mapping]] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("put", "delete_range", "txn", "compaction", "range", "failure")
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_RANGE_FIELD_NUMBER: _ClassVar[int]
    TXN_FIELD_NUMBER: _ClassVar[int]
    COMPACTION_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    put: _rpc_pb2.PutResponse
    delete_range: _rpc_pb2.DeleteRangeResponse
    txn: _rpc_pb2.TxnResponse
    compaction: _rpc_pb2.CompactionResponse
    range: _rpc_pb2.RangeResponse
    failure: Failure
    def __init__(self, put: _Optional[_Union[_rpc_pb2.PutResponse, _Mapping]] = ..., delete_range: _Optional[_Union[_rpc_pb2.DeleteRangeResponse, _Mapping]] = ..., txn: _Optional[_Union[_rpc_pb2.TxnResponse, _Mapping]] = ..., compaction: _Optional[_Union[_rpc_pb2.CompactionResponse, _Mapping]] = ..., range: _Optional[_Union[_rpc_pb2.RangeResponse, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "message", "outcome")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[Failure.Outcome]
        NOT_APPLIED: _ClassVar[Failure.Outcome]
    UNKNOWN: Failure.Outcome
    NOT_APPLIED: Failure.Outcome
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    outcome: Failure.Outcome
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., outcome: _Optional[_Union[Failure.Outcome, str]] = ...) -> None: ...
