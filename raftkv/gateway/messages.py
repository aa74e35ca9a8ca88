"""JSON to request messages and answers to JSON, as etcd's gateway does it.

A field may go by its own name or in camelCase (the latter wins), an integer may be a string, an enum a name or a number, bytes
are base64 or an array of numbers; null leaves a field as it is; a field that does not exist is passed over. Fields are read in
the order of the proto file, so of several mistakes everybody is told the same one.

What may not live here: HTTP.

Source: golang/protobuf's jsonpb as etcd 3.4 uses it, and its answers (tests/gateway).
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from raftkv.gateway.go_json import TOO_DEEP, Malformed, Number, only_value

_SURROGATE = re.compile("[\ud800-\udfff]")
_NEWLINES = re.compile(rb"[\r\n]+")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/\r\n]")
_INTEGER = re.compile(r"-?[0-9]+")
_OBJECT = "map[string]json.RawMessage"
_ARRAY = "[]json.RawMessage"
_BYTES = "[]uint8"

_INTEGERS = {
    FieldDescriptor.TYPE_INT64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: ("uint64", 0, 2**64 - 1),
    FieldDescriptor.TYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: ("uint32", 0, 2**32 - 1),
}


def read_message(message: Message, value: Any) -> None:
    """Set a message's fields from a JSON value.

    Raises:
        Malformed: the value does not fit; the text is Go's.
    """
    try:
        _read_message(message, value)
    except RecursionError:
        raise Malformed(TOO_DEEP) from None


def to_json(message: Message) -> str:
    """An answer as JSON: 64-bit integers as strings, bytes as base64, defaults left out."""
    found = MessageToDict(message, preserving_proto_field_name=True)
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def _read_message(message: Message, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise _misfit(value, _OBJECT)
    for field in _in_go_order(message.DESCRIPTOR):
        for name in (field.camelcase_name, field.name):
            if name in value:
                _read_field(message, field, value[name])
                break


@cache
def _in_go_order(descriptor: Any) -> list[FieldDescriptor]:
    """A message's fields in the order in which jsonpb reads them: those of a oneof last."""
    fields: list[FieldDescriptor] = list(descriptor.fields)
    return sorted(fields, key=lambda field: field.containing_oneof is not None)


def _read_field(message: Message, field: FieldDescriptor, value: Any) -> None:
    if field.is_repeated:
        _read_repeated(getattr(message, field.name), field, value)
    elif field.message_type is not None:
        if value is not None:
            part = getattr(message, field.name)
            part.SetInParent()
            _read_message(part, value)
    elif value is not None:
        setattr(message, field.name, _scalar(field, value))
    elif field.containing_oneof is not None:
        setattr(message, field.name, field.default_value)


def _read_repeated(items: Any, field: FieldDescriptor, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, list):
        raise _misfit(value, _ARRAY)
    for item in value:
        if field.message_type is not None:
            _read_message(items.add(), item)
        else:
            items.append(_default(field) if item is None else _scalar(field, item))


def _default(field: FieldDescriptor) -> Any:
    """What an element is that was given as null."""
    return {FieldDescriptor.TYPE_STRING: "", FieldDescriptor.TYPE_BYTES: b""}.get(field.type, 0)


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        return _enum(field.enum_type, value)
    if field.type in _INTEGERS:
        return _integer(value, *_INTEGERS[field.type])
    return _READ[field.type](value)


def _integer(value: Any, kind: str, low: int, high: int) -> int:
    """A number, or a string that holds one; Go reads what is in the quotes as JSON of its own."""
    if isinstance(value, str) and not isinstance(value, Number):
        value = only_value(value)
        if value is None:
            return 0
    if not isinstance(value, Number):
        raise _misfit(value, kind)
    if not _INTEGER.fullmatch(value) or len(value) > 20 or not low <= int(value) <= high:
        raise Malformed(f"json: cannot unmarshal number {value} into Go value of type {kind}")
    return int(value)


def _enum(enum: EnumDescriptor, value: Any) -> int:
    go_name = enum.full_name.removeprefix("raftkv.").split(".", 1)
    kind = f"{go_name[0]}.{go_name[1].replace('.', '_')}"
    if isinstance(value, str) and not isinstance(value, Number):
        if value not in enum.values_by_name:
            raise Malformed(f"unknown value {json.dumps(value)} for enum {kind}")
        number: int = enum.values_by_name[value].number
        return number
    return _integer(value, kind, -(2**31), 2**31 - 1)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _misfit(value, "bool")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str) or isinstance(value, Number):
        raise _misfit(value, "string")
    return _SURROGATE.sub("\ufffd", value)


def _bytes(value: Any) -> bytes:
    if isinstance(value, list):
        return bytes(0 if item is None else _integer_of_array(item) for item in value)
    if not isinstance(value, str) or isinstance(value, Number):
        raise _misfit(value, _BYTES)
    text = value.encode("utf-8", "surrogatepass")
    compact = _NEWLINES.sub(b"", text) if b"\n" in text or b"\r" in text else text
    with suppress(binascii.Error):
        if len(compact) % 4 == 0:  # Python is content with too much padding.
            return binascii.a2b_base64(compact, strict_mode=True)
    raise Malformed(f"illegal base64 data at input byte {_base64_mistake(text)}")


def _integer_of_array(value: Any) -> int:
    if not isinstance(value, Number):
        raise _misfit(value, "uint8")
    return _integer(value, "uint8", 0, 255)


def _base64_mistake(text: bytes) -> int:
    """Where Go's decoder stops in a text that is not base64."""
    found = _NOT_BASE64.search(text)
    end = len(text) if found is None else found.start()
    behind = (end - sum(text.count(sign, 0, end) for sign in (b"\r", b"\n"))) % 4
    if found is None:
        return end - behind
    if text[end : end + 1] != b"=" or behind < 2:
        return end
    rest = _skip_newlines(text, end + 1)
    if behind == 2:
        if rest == len(text):
            return rest
        if text[rest : rest + 1] != b"=":
            return rest - 1
        rest = _skip_newlines(text, rest + 1)
    return rest


def _skip_newlines(text: bytes, position: int) -> int:
    found = _NEWLINES.match(text, position)
    return position if found is None else found.end()


def _misfit(value: Any, kind: str) -> Malformed:
    match value:
        case bool():
            what = "bool"
        case Number():
            what = "number"
        case str():
            what = "string"
        case list():
            what = "array"
        case _:
            what = "object"
    return Malformed(f"json: cannot unmarshal {what} into Go value of type {kind}")


_READ: dict[int, Callable[[Any], Any]] = {
    FieldDescriptor.TYPE_BOOL: _boolean,
    FieldDescriptor.TYPE_STRING: _string,
    FieldDescriptor.TYPE_BYTES: _bytes,
}
