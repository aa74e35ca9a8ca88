"""Values as Go writes them; the pairs were printed by Go or by etcdctl."""

from __future__ import annotations

import pytest

from raftkv.cli import goformat


@pytest.mark.parametrize(
    ("data", "quoted"),
    [
        (b"", '""'),
        (b"plain", '"plain"'),
        (b'a"b\\c', r'"a\"b\\c"'),
        (b"\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        (b"x\xff\x01\x7f\x00", r'"x\xff\x01\x7f\x00"'),
        ("é\U0001f600".encode(), '"é\U0001f600"'),
        ("\u200b\u2028\U000e0001".encode(), r'"\u200b\u2028\U000e0001"'),
        (b"\xe2\x82", r'"\xe2\x82"'),
        (b"\xed\xa0\x80", r'"\xed\xa0\x80"'),
        ("\ufffd".encode(), '"\ufffd"'),
    ],
)
def test_quoting_is_gos_and_unquoting_gives_the_bytes_back(data: bytes, quoted: str) -> None:
    assert goformat.quote(data) == quoted.encode()
    assert goformat.unquote(quoted) == data


@pytest.mark.parametrize(
    ("literal", "data"),
    [
        (r'"\x41\u00e9\U0001F600\101"', "Aé\U0001f600A".encode()),
        (r"`raw \n`", rb"raw \n"),
        ('""', b""),
        ('"\udcff"', b"\xff"),
    ],
)
def test_unquoting_understands_every_escape(literal: str, data: bytes) -> None:
    assert goformat.unquote(literal) == data


@pytest.mark.parametrize(
    "literal", [r'"\q"', '"', "", "plain", r'"\x4"', r'"\u12"', r'"\ud800"', r'"\U00110000"', r'"\777"', '"a`', '"\\"']
)
def test_unquoting_refuses_what_go_refuses(literal: str) -> None:
    with pytest.raises(ValueError, match="invalid syntax"):
        goformat.unquote(literal)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.004829406, "4.829406ms"),
        (0.300736625, "300.736625ms"),
        (0.0, "0s"),
        (1e-9, "1ns"),
        (999e-9, "999ns"),
        (0.0000015, "1.5µs"),
        (0.001, "1ms"),
        (1.0, "1s"),
        (1.5, "1.5s"),
        (61.25, "1m1.25s"),
        (3600.0, "1h0m0s"),
        (-0.5, "-500ms"),
    ],
)
def test_durations_are_printed_as_go_does_and_read_back(seconds: float, text: str) -> None:
    assert goformat.duration(seconds) == text
    assert goformat.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "1x", "5ss", "--5s", "1m30", ".s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        goformat.parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (9, "9 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9999, "10 kB"),
        (20480, "20 kB"),
        (24576, "25 kB"),
        (32768, "33 kB"),
        (1_234_567, "1.2 MB"),
        (82_854_982, "83 MB"),
        (10**18, "1.0 EB"),
    ],
)
def test_sizes_are_humanized_in_powers_of_a_thousand(size: int, text: str) -> None:
    assert goformat.human_size(size) == text


@pytest.mark.parametrize(
    ("text", "base", "number"), [("0", 10, 0), ("-1", 10, -1), ("+7", 10, 7), ("7fffffffffffffff", 16, 2**63 - 1)]
)
def test_integers_are_digits_with_a_sign(text: str, base: int, number: int) -> None:
    assert goformat.parse_int(text, base) == number


@pytest.mark.parametrize(
    ("text", "base"),
    [("", 10), ("1_0", 10), (" 1", 10), ("x", 10), ("0x1", 16), ("9223372036854775808", 10), ("٣", 10)],
)
def test_what_go_does_not_take_for_an_integer_is_refused(text: str, base: int) -> None:
    with pytest.raises(ValueError, match=r"invalid syntax|value out of range"):
        goformat.parse_int(text, base)
