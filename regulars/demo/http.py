"""A small HTTP/1.1 client with kept-alive connections: what 22,000 webhooks cost should be the receiver's affair."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

CONNECTIONS = 16


class Unexpected(Exception):
    """The API answered something else than it promises."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of a response."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The decoded body."""
        return msgspec.json.decode(self.body)


class Client:
    """At most CONNECTIONS requests at a time, to one host."""

    def __init__(self, address: str, key: str) -> None:
        parts = urlsplit(address)
        self.address = address
        self.key = key
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: asyncio.LifoQueue[_Connection] = asyncio.LifoQueue()
        for _ in range(CONNECTIONS):
            self._idle.put_nowait(_Connection(self._host, self._port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while not self._idle.empty():
            self._idle.get_nowait().close()

    async def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """One request as it is, without a key. OSError when nobody answers."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}:{self._port}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        raw = "\r\n".join([*lines, "", ""]).encode() + body
        connection = await self._idle.get()
        try:
            return await connection.exchange(raw)
        finally:
            self._idle.put_nowait(connection)

    async def get(self, target: str) -> Any:
        """The JSON under an API path. Unexpected when it is not 200."""
        answer = await self.request("GET", target, {"Authorization": f"Bearer {self.key}"})
        if answer.status != 200:  # noqa: PLR2004
            raise Unexpected(f"GET {target}: {answer.status} {answer.body[:300]!r}")
        return answer.json()

    async def post(self, target: str, content: object) -> Answer:
        """POSTs JSON to an API path."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        return await self.request("POST", target, headers, msgspec.json.encode(content))

    async def every(self, target: str) -> list[Any]:
        """All pages of a list."""
        found: list[Any] = []
        cursor = ""
        mark = "&" if "?" in target else "?"
        while True:
            page = await self.get(f"{target}{mark}limit=250{cursor}")
            found += page["data"]
            if not page["next"]:
                return found
            cursor = f"&cursor={page['next']}"


class _Connection:
    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, raw: bytes) -> Answer:
        reused = self._streams is not None
        try:
            return await self._exchange(raw)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            if not reused:
                raise
            # The server may close a connection that was idle; deliveries and reads can be sent again.
            return await self._exchange(raw)

    async def _exchange(self, raw: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=2**20)
        reader, writer = self._streams
        writer.write(raw)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(status_line.split(" ", 2)[1]), body)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
