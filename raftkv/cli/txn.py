"""`raftkv txn`: compares, success requests and failure requests, each part ended by an empty line.

What may not live here: what put, get and del accept; their own commands parse the lines.

Source: etcdctl 3.4's README, "TXN"; the texts of errors are etcdctl's.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click

from raftkv.cli import kv, requests
from raftkv.cli.exits import Exit, Failure, bad_arguments
from raftkv.cli.goformat import parse_int, unquote
from raftkv.cli.lazy import CliCommand
from raftkv.cli.options import flag, given, settings_of
from raftkv.pb.rpc_pb2 import Compare, RequestOp, TxnRequest

PARTS = ("compares:", "success requests (get, put, del):", "failure requests (get, put, del):")
EXAMPLES = r"""
raftkv txn -i                                   asks for the three parts
raftkv txn <<'END'
mod("config") = "0"

put config "first \x41"

get config

END

Compares: mod("k") create("k") ver("k") val("k") lease("k"), then = != < > between spaces, then a quoted value.
"""

_QUOTED = r'"(?:[^"\\]|\\.)*"|`[^`]*`'
_COMPARE = re.compile(rf"\s*({_QUOTED})\)\s+(\S+)\s+({_QUOTED})")
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[^\'"\s]\S*')
_OPERATORS = {"=": Compare.EQUAL, "!=": Compare.NOT_EQUAL, ">": Compare.GREATER, "<": Compare.LESS}
_TARGETS = {
    "ver": Compare.VERSION,
    "version": Compare.VERSION,
    "c": Compare.CREATE,
    "create": Compare.CREATE,
    "m": Compare.MOD,
    "mod": Compare.MOD,
    "val": Compare.VALUE,
    "value": Compare.VALUE,
    "lease": Compare.LEASE,
}
_FIELDS = {
    Compare.VERSION: "version",
    Compare.CREATE: "create_revision",
    Compare.MOD: "mod_revision",
    Compare.LEASE: "lease",
}


@click.command("txn", cls=CliCommand, examples=EXAMPLES)
@click.argument("arguments", nargs=-1, metavar="")
@flag("-i", "--interactive", help="Say which part is read.")
@click.pass_context
def txn(ctx: click.Context, arguments: tuple[str, ...], interactive: bool) -> None:
    """Read a transaction from stdin and apply it as one.

    Three parts, each ended by an empty line: compares; requests if all of them hold; requests if any does not.
    """
    settings = settings_of(ctx)
    if arguments:
        raise bad_arguments("txn command does not accept argument")

    from raftkv.cli.printers import printer
    from raftkv.cli.rpc import Connection

    show = printer(settings, "txn")
    request = read_txn(sys.stdin, prompt=_prompt if interactive else _no_prompt)
    with Connection(settings) as connection:
        show(connection.txn(request))


def _prompt(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


def _no_prompt(_: str) -> None:
    pass


def read_txn(lines: Iterable[str], *, prompt: Any = _no_prompt) -> TxnRequest:
    """A transaction in etcdctl's grammar; `prompt` is told the name of each part before it is read.

    Raises:
        Failure: a line that cannot be read, or the input ends before the empty line after the third part: a transaction
            cut off is not applied.
    """
    source = iter(lines)
    compares, success, failure = PARTS
    prompt(compares)
    request = TxnRequest(compare=[parse_compare(line) for line in _part(source, compares)])
    prompt(success)
    request.success.extend(parse_operation(line) for line in _part(source, success))
    prompt(failure)
    request.failure.extend(parse_operation(line) for line in _part(source, failure))
    return request


def _part(source: Iterator[str], name: str) -> Iterator[str]:
    """The lines up to an empty one."""
    for line in source:
        if not line.endswith("\n"):
            break
        text = line.strip()
        if not text:
            return
        yield text
    raise _invalid(f"EOF: the input ends inside {name} an empty line must end each of the three parts")


def parse_compare(line: str) -> Compare:
    """`mod("key") > "0"`.

    Raises:
        Failure: not of this form, an unknown target or operator, or a value that is no number where one is compared.
    """
    target, parenthesis, rest = line.partition("(")
    found = _COMPARE.match(rest)
    if not parenthesis or found is None:
        raise _invalid(f"malformed comparison: {line}")
    if target not in _TARGETS:
        raise _invalid(f"malformed comparison: {line} (unknown target {target}; allowed: {', '.join(_TARGETS)})")
    key, operator, value = found.groups()
    if operator not in _OPERATORS:
        raise _invalid(f"malformed comparison: {line} (unknown operator {operator}; allowed: {' '.join(_OPERATORS)})")
    kind = _TARGETS[target]
    try:
        compare = Compare(result=_OPERATORS[operator], target=kind, key=unquote(key))
        if kind == Compare.VALUE:
            compare.value = unquote(value)
        else:
            number = unquote(value).decode("ascii", "replace")
            setattr(compare, _FIELDS[kind], parse_int(number, 16 if kind == Compare.LEASE else 10))
    except ValueError:
        raise _invalid(f"invalid txn compare request: {line}") from None
    return compare


def parse_operation(line: str) -> RequestOp:
    """`put key value`, `get key`, `del key`, with the flags of these commands.

    Raises:
        Failure: not such a line.
    """
    words = split_words(line)
    if len(words) < 2:
        raise _invalid(f"invalid txn compare request: {line}")
    name, *arguments = words
    match name:
        case "put":
            keys, options = _parse(kv.put, arguments, line)
            return RequestOp(request_put=requests.put_request(keys, **options))
        case "get":
            keys, options = _parse(kv.get, arguments, line)
            options.pop("print_value_only")  # How to print is a matter of the whole transaction.
            return RequestOp(request_range=requests.range_request(keys, **options))
        case "del":
            keys, options = _parse(kv.delete, arguments, line)
            return RequestOp(request_delete_range=requests.delete_request(keys, **options))
    raise _invalid(f"invalid txn request: {line}")


def _parse(command: click.Command, arguments: list[str], line: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    try:
        with command.make_context(command.name, list(arguments), help_option_names=[]) as ctx:
            options = dict(ctx.params)
            extra = list(given(ctx))
    except click.UsageError as error:
        raise _invalid(f"invalid txn request: {line} ({error.message.rstrip('.')})") from None
    if extra:
        raise _invalid(f"invalid txn request: {line} (--{extra[0].replace('_', '-')} is not for one request)")
    return options.pop("arguments"), options


def split_words(line: str) -> list[str]:
    """Words between spaces; "double quotes" take Go's escapes, 'single quotes' take everything as it is.

    Raises:
        Failure: a quote that is not closed, or an unknown escape.
    """
    words = []
    at = 0
    for found in _WORD.finditer(line):
        if line[at : found.start()].strip():
            break
        at = found.end()
        word = found[0]
        if word[0] == '"':
            try:
                word = os.fsdecode(unquote(word))
            except ValueError as error:
                raise _invalid(f"{error}: {found[0]}") from None
        elif word[0] == "'":
            word = word[1:-1]
        words.append(word)
    if line[at:].strip():
        raise _invalid(f"a quote is not closed: {line}")
    return words


def _invalid(message: str) -> Failure:
    return Failure(message, Exit.INVALID_INPUT)
