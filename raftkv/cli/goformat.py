"""How Go writes things: quoted strings, durations, sizes, integers. Outputs of etcdctl are made of these.

What may not live here: anything about commands or gRPC; pure functions of plain values only.

Source: strconv.Quote/Unquote/ParseInt, time.Duration.String/ParseDuration, dustin/go-humanize.
"""

from __future__ import annotations

import re

NS_PER_S = 1_000_000_000
_NS_BY_UNIT = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
}
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SIZE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")

_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
    '"': r"\"",
}
_UNESCAPES = {
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "v": b"\v",
    "\\": b"\\",
    '"': b'"',
}
_ESCAPE = re.compile(r'\\(?:([abfnrtv\\"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))')


def quote(data: bytes) -> bytes:
    r"""`%q`: a double-quoted Go string; bytes that are not UTF-8 come out as `\xff`."""
    text = data.decode("utf-8", "surrogateescape")
    return ('"' + "".join(_quote_char(char) for char in text) + '"').encode()


def _quote_char(char: str) -> str:
    code = ord(char)
    if char in _ESCAPES:
        return _ESCAPES[char]
    if 0xDC80 <= code <= 0xDCFF:  # A byte that was not UTF-8, as `surrogateescape` carries it.
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable():
        return char
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote(literal: str) -> bytes:
    """The bytes of a Go string literal, "interpreted" or `raw`.

    Raises:
        ValueError: not a Go string literal. The text is Go's: `invalid syntax`.
    """
    if len(literal) < 2 or literal[0] != literal[-1] or literal[0] not in '"`':
        raise ValueError("invalid syntax")
    body = literal[1:-1]
    if literal[0] == "`":
        return body.encode("utf-8", "surrogateescape")
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        if body[at] != "\\":
            parts.append(body[at].encode("utf-8", "surrogateescape"))
            at += 1
            continue
        escape = _ESCAPE.match(body, at)
        if escape is None:
            raise ValueError("invalid syntax")
        parts.append(_unescape(escape))
        at = escape.end()
    return b"".join(parts)


def _unescape(escape: re.Match[str]) -> bytes:
    char, hexadecimal, octal, short, long = escape.groups()
    if char:
        return _UNESCAPES[char]
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    if octal:
        code = int(octal, 8)
        if code > 0xFF:
            raise ValueError("invalid syntax")
        return bytes([code])
    code = int(short or long, 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise ValueError("invalid syntax")
    return chr(code).encode()


def hex_string(data: bytes) -> bytes:
    r"""`\x61\x62`: how `--hex` shows keys and values."""
    return "".join(f"\\x{byte:02x}" for byte in data).encode()


def parse_int(text: str, base: int = 10) -> int:
    """A 64-bit signed integer: digits with an optional sign, nothing else.

    Raises:
        ValueError: not a number of this base, or beyond 64 bits.
    """
    digits = "0-9a-fA-F" if base == 16 else "0-9"
    if not re.fullmatch(f"[+-]?[{digits}]+", text):
        raise ValueError("invalid syntax")
    number = int(text, base)
    if not -(2**63) <= number < 2**63:
        raise ValueError("value out of range")
    return number


def parse_duration(text: str) -> float:
    """Seconds of a Go duration: `300ms`, `5s`, `1m30s`, `0`.

    Raises:
        ValueError: no unit, an unknown unit, or not a number.
    """
    if text in {"0", "+0", "-0"}:
        return 0.0
    body = text[1:] if text[:1] in {"+", "-"} else text
    parts = _DURATION_PART.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise ValueError("not a duration")
    seconds = sum(float(number) * _NS_BY_UNIT[unit] for number, unit in parts) / NS_PER_S
    return -seconds if text.startswith("-") else seconds


def duration(seconds: float) -> str:
    """`4.829406ms`, `1m0.5s`: time.Duration's String, to the nanosecond."""
    ns = round(abs(seconds) * NS_PER_S)
    sign = "-" if seconds < 0 and ns else ""
    if ns == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if ns < size * 1_000:
            return f"{sign}{_decimal(ns, size)}{unit}"
    minutes, rest = divmod(ns, 60 * NS_PER_S)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, NS_PER_S)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else f"{sign}{text}"


def _decimal(number: int, unit: int) -> str:
    """number/unit exactly, without trailing zeros; `unit` is a power of ten."""
    whole, rest = divmod(number, unit)
    fraction = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{fraction}" if fraction else str(whole)


def human_size(size_bytes: int) -> str:
    """`33 kB`, `1.2 MB`: powers of 1000, one decimal below ten."""
    if size_bytes < 10:
        return f"{size_bytes} B"
    exponent = (len(str(size_bytes)) - 1) // 3
    value = int(size_bytes / 1000**exponent * 10 + 0.5) / 10
    return f"{value:.1f} {_SIZE_UNITS[exponent]}" if value < 10 else f"{value:.0f} {_SIZE_UNITS[exponent]}"
