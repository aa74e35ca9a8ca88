from raftkv.pb import rpc_pb2 as _rpc_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecordRequest(_message.Message):
    __slots__ = ("bytes_max",)
    BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    bytes_max: int
    def __init__(self, bytes_max: _Optional[int] = ...) -> None: ...

class RecordResponse(_message.Message):
    __slots__ = ("header", "name", "clock", "lines", "is_cut", "members")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    IS_CUT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    header: _rpc_pb2.ResponseHeader
    name: str
    clock: float
    lines: _containers.RepeatedScalarFieldContainer[bytes]
    is_cut: bool
    members: _containers.RepeatedCompositeFieldContainer[_rpc_pb2.Member]
    def __init__(self, header: _Optional[_Union[_rpc_pb2.ResponseHeader, _Mapping]] = ..., name: _Optional[str] = ..., clock: _Optional[float] = ..., lines: _Optional[_Iterable[bytes]] = ..., is_cut: _Optional[bool] = ..., members: _Optional[_Iterable[_Union[_rpc_pb2.Member, _Mapping]]] = ...) -> None: ...
