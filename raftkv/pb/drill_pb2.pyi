from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Fault(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NONE: _ClassVar[Fault]
    CRASH: _ClassVar[Fault]
    HANG: _ClassVar[Fault]
    CUT: _ClassVar[Fault]
    DEAF: _ClassVar[Fault]
    MUTE: _ClassVar[Fault]
    DISK_STALL: _ClassVar[Fault]
    DISK_FULL: _ClassVar[Fault]
NONE: Fault
CRASH: Fault
HANG: Fault
CUT: Fault
DEAF: Fault
MUTE: Fault
DISK_STALL: Fault
DISK_FULL: Fault

class BreakRequest(_message.Message):
    __slots__ = ("fault", "duration_ms")
    FAULT_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    fault: Fault
    duration_ms: int
    def __init__(self, fault: _Optional[_Union[Fault, str]] = ..., duration_ms: _Optional[int] = ...) -> None: ...

class BreakResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealResponse(_message.Message):
    __slots__ = ("healed",)
    HEALED_FIELD_NUMBER: _ClassVar[int]
    healed: Fault
    def __init__(self, healed: _Optional[_Union[Fault, str]] = ...) -> None: ...
