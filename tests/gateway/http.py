"""HTTP/1 as plain as can be, for raftkv and etcd alike, and both side by side."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

CALL_S = 20.0
IDS = frozenset({"cluster_id", "member_id", "raft_term"})


@dataclass(frozen=True)
class Answer:
    """What came back to one request."""

    status: int
    body: bytes
    headers: dict[str, str] = field(compare=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")


class Http:
    """One server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = urlsplit(url).netloc

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        with self.open(method, path, body, headers) as response:
            return answer_of(response)

    @contextmanager
    def open(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        """The response, with its body still to come."""
        connection = HTTPConnection(self.address, timeout=CALL_S)
        raw = body.encode() if isinstance(body, str) else body
        try:
            connection.request(method, path, raw, headers or {})
            yield connection.getresponse()
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, value: Any, headers: dict[str, str] | None = None) -> Answer:
        """With a JSON value, or with text as it is."""
        return self.ask("POST", path, value if isinstance(value, str | bytes) else json.dumps(value), headers)

    def put_key(self, key: bytes, value: bytes) -> Answer:
        answer = self.post("/v3/kv/put", {"key": b64(key), "value": b64(value)})
        assert answer.status == 200, answer
        return answer

    @property
    def revision(self) -> int:
        answer = self.post("/v3/kv/range", {"key": b64(b"level")})
        return int(answer.json["header"]["revision"])

    def lines(self, path: str, body: str, count: int, headers: dict[str, str] | None = None) -> list[Any]:
        """The first lines of a stream."""
        with self.open("POST", path, body, headers) as response:
            assert response.status == 200, (response.status, response.read())
            return [json.loads(response.readline()) for _ in range(count)]


def answer_of(response: HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, response.read(), headers)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def masked(value: Any) -> Any:
    """A JSON value without what differs between any two clusters."""
    match value:
        case dict():
            return {key: "*" if key in IDS else masked(inner) for key, inner in value.items()}
        case list():
            return [masked(inner) for inner in value]
        case _:
            return value


def shape(value: Any) -> Any:
    """A JSON value with its types alone."""
    match value:
        case dict():
            return {key: shape(inner) for key, inner in value.items()}
        case list():
            return [shape(inner) for inner in value]
        case _:
            return type(value).__name__


@dataclass(frozen=True)
class Both:
    """A raftkv node and etcd, at the same revision; a test does the same to both, so what they say of revisions is equal."""

    ours: Http
    theirs: Http

    def level(self) -> None:
        """Bring the one that is behind to the other's revision."""
        ours, theirs = (http.revision for http in (self.ours, self.theirs))
        for _ in range(abs(ours - theirs)):
            (self.ours if ours < theirs else self.theirs).put_key(b"level", b"")

    def post(self, path: str, value: Any, headers: dict[str, str] | None = None) -> Answer:
        """Ask both the same, and assert that they answer alike but for ids; raftkv's answer."""
        ours, theirs = (http.post(path, value, headers) for http in (self.ours, self.theirs))
        assert (ours.status, ours.content_type) == (theirs.status, theirs.content_type), (ours, theirs)
        if "json" in theirs.content_type and theirs.body:
            assert masked(ours.json) == masked(theirs.json)
        else:
            assert ours.body == theirs.body
        return ours

    def ask(self, method: str, path: str, body: str | None = None) -> Answer:
        """The same for any method, body and headers alike."""
        ours, theirs = (http.ask(method, path, body) for http in (self.ours, self.theirs))
        assert ours == theirs
        compared = ("content-type", "allow", "x-content-type-options", *CORS_HEADERS)
        assert {name: ours.headers.get(name) for name in compared} == {
            name: theirs.headers.get(name) for name in compared
        }
        return ours

    def lines(self, path: str, body: str, count: int, headers: dict[str, str] | None = None) -> list[Any]:
        ours, theirs = (http.lines(path, body, count, headers) for http in (self.ours, self.theirs))
        assert masked(ours) == masked(theirs)
        return ours


CORS_HEADERS = ("access-control-allow-headers", "access-control-allow-methods", "access-control-allow-origin")
