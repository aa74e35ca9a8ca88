"""JSON as Go reads it: the same documents accepted, the same words about those that are not.

Values are read by Python's own scanner, in C; only when it refuses one is it asked what Go would have said, from the place
where it stopped. Numbers stay text (`Number`): what they may be depends on the field they are for.

Text is UTF-8 decoded with `surrogateescape`: a byte that is none stays one until a string field replaces it, as Go does.

What may not live here: messages and their fields (`messages.py`).

Source: Go's encoding/json (scanner.go), and its answers through etcd's gateway (tests/gateway).
"""

from __future__ import annotations

import json
import re
from typing import Any

TRUNCATED = "unexpected EOF"
"""A stream of values ended within one."""
EMPTY = "unexpected end of JSON input"
"""A text that should hold one value ended before it did."""
TOO_DEEP = "exceeded max depth"

_KEY = "looking for beginning of object key string"
_VALUE = "looking for beginning of value"
_SPACE = re.compile(r"[ \t\n\r]*")
_LITERALS = {"t": "true", "f": "false", "n": "null"}
_NUMBER_PREFIX = re.compile(r"-?(?:0|[1-9][0-9]*)?(?:(?<=[0-9])\.[0-9]*)?(?:(?<=[0-9])[eE][-+]?[0-9]*)?")


class Malformed(ValueError):
    """Not JSON; the message is Go's."""


class Number(str):
    """A number, as it was written."""

    __slots__ = ()


class _Constant(Exception):
    """NaN or an infinity, which JSON does not have."""


def _constant(name: str) -> Any:
    raise _Constant(name)


def _number(text: str) -> Number:
    """A Python function, not the class itself: between two numbers another thread may have the interpreter."""
    return Number(text)


_scan_once = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_constant).scan_once  # type: ignore[attr-defined]


def next_value(text: str, start: int) -> tuple[Any, int] | None:
    """The value that begins at or after `start`, and where it ends; None if nothing but space is left.

    Raises:
        Malformed: with `TRUNCATED` if the text ends within the value.
    """
    begin = _skip_space(text, start)
    if begin == len(text):
        return None
    try:
        value, end = _scan_once(text, begin)
    except StopIteration as stopped:
        raise Malformed(_no_value(text, stopped.value)) from None
    except json.JSONDecodeError as error:
        raise Malformed(_reason(text, error)) from None
    except _Constant as constant:
        name = str(constant)
        said = _unexpected("I", "in numeric literal") if name[0] == "-" else _unexpected(name[0], _VALUE)
        raise Malformed(said) from None
    except RecursionError:
        raise Malformed(TOO_DEEP) from None
    if isinstance(value, Number):
        _check_number(text, begin, end)
    return value, end


def only_value(text: str) -> Any:
    """The one value that a text consists of.

    Raises:
        Malformed
    """
    try:
        found = next_value(text, 0)
    except Malformed as error:
        raise Malformed(EMPTY if str(error) == TRUNCATED else str(error)) from None
    if found is None:
        raise Malformed(EMPTY)
    value, end = found
    rest = _skip_space(text, end)
    if rest < len(text):
        raise Malformed(_unexpected(text[rest], "after top-level value"))
    return value


def _skip_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    assert found is not None, "no space is space too"
    return found.end()


def _check_number(text: str, begin: int, end: int) -> None:
    """Python ends a number before what does not belong to it; Go takes `1.` for a number that is not finished."""
    found = _NUMBER_PREFIX.match(text, begin)
    if found is not None and found.end() > end:
        raise Malformed(_in_number(text, found.group(), found.end()))


# --- what Go says ----------------------------------------------------------------------------------------------------


def _reason(text: str, error: json.JSONDecodeError) -> str:
    at = error.pos
    match error.msg.split(" at")[0].split(" starting")[0]:
        case "Expecting value":
            return _no_value(text, at)
        case "Unterminated string":
            return TRUNCATED
        case "Invalid control character":
            return _unexpected(text[at], "in string literal")
        case message if message.startswith("Invalid \\escape"):
            return _after_backslash(text, at)
        case "Invalid \\uXXXX escape":
            return _in_hexadecimal(text, at)
        case "Expecting ':' delimiter":
            return _at(text, at, "after object key")
        case "Expecting ',' delimiter":
            return _no_comma(text, at)
        case message if message.startswith("Illegal trailing comma"):  # Python 3.13; it points at the comma.
            return _at(text, at + 1, _VALUE if "array" in message else _KEY)
        case _:  # "Expecting property name enclosed in double quotes".
            return _at(text, at, _KEY)


def _at(text: str, position: int, where: str) -> str:
    position = _skip_space(text, position)
    return TRUNCATED if position >= len(text) else _unexpected(text[position], where)


def _no_value(text: str, position: int) -> str:
    """A value should begin here, and what does is none."""
    position = _skip_space(text, position)
    if position >= len(text):
        return TRUNCATED
    first = text[position]
    if first in _LITERALS:
        return _in_literal(text, position, _LITERALS[first])
    if first == "-":
        return _in_number(text, "-", position + 1)
    return _unexpected(first, _VALUE)


def _in_literal(text: str, position: int, literal: str) -> str:
    for offset, expected in enumerate(literal):
        if position + offset >= len(text):
            return TRUNCATED
        if text[position + offset] != expected:
            return _unexpected(text[position + offset], f"in literal {literal} (expecting {_quoted(expected)})")
    raise AssertionError(f"{literal} is a value")


def _in_number(text: str, prefix: str, position: int) -> str:
    if position >= len(text):
        return TRUNCATED
    if prefix[-1] == ".":
        where = "after decimal point in numeric literal"
    elif prefix[-1] in "eE+-" and prefix != "-":
        where = "in exponent of numeric literal"
    else:
        where = "in numeric literal"
    return _unexpected(text[position], where)


def _no_comma(text: str, position: int) -> str:
    """A value ended before this, and neither a comma nor the end of what it is in follows."""
    begin = position
    while begin > 0 and text[begin - 1] in "+-.0123456789eE":
        begin -= 1
    found = _NUMBER_PREFIX.match(text, begin)
    if found is not None and begin < position < found.end():
        return _in_number(text, found.group(), found.end())
    return _at(
        text, position, "after object key:value pair" if _is_in_object(text, position) else "after array element"
    )


def _is_in_object(text: str, position: int) -> bool:
    """Whether what is open at `position`, up to where the text is well-formed, is an object."""
    closed = 0
    for token in reversed(list(_STRUCTURE.finditer(text, 0, position))):
        sign = token.group()
        if sign in "]}":
            closed += 1
        elif sign in "[{":
            if not closed:
                return sign == "{"
            closed -= 1
    raise AssertionError("a comma is missing where nothing is open")


_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def _after_backslash(text: str, backslash: int) -> str:
    """Python points at the backslash."""
    position = backslash + 1
    return TRUNCATED if position >= len(text) else _unexpected(text[position], "in string escape code")


def _in_hexadecimal(text: str, position: int) -> str:
    """Python points at the `u`, or behind it."""
    position += text[position : position + 1] == "u"
    for offset in range(4):
        if position + offset >= len(text):
            return TRUNCATED
        if text[position + offset] not in "0123456789abcdefABCDEF":
            return _unexpected(text[position + offset], "in \\u hexadecimal character escape")
    return TRUNCATED


def _unexpected(character: str, where: str) -> str:
    return f"invalid character {_quoted(character)} {where}"


def _quoted(character: str) -> str:
    """A byte, as Go quotes it: of a character of several bytes, the first."""
    if character == "'":
        return r"'\''"
    if character == '"':
        return "'\"'"
    byte = chr(character.encode("utf-8", "surrogateescape")[0])
    special = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": "\\\\"}
    if byte in special:
        return f"'{special[byte]}'"
    if byte.isprintable() and byte != "\xad":
        return f"'{byte}'"
    return f"'\\u{ord(byte):04x}'" if ord(byte) >= 0x80 else f"'\\x{ord(byte):02x}'"
