"""HTTP by hand: whatever bytes an attacker likes, and what comes back for them."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

ANSWER_SECONDS = 25.0
HUNG_UP = "hung up"
SILENT = "no answer"
_PIECE = 64 * 1024

Headers = Iterable[tuple[bytes, bytes]]
Sent = bytes | Iterable[bytes] | AsyncIterator[bytes]


class Answer(NamedTuple):
    """What came back."""

    status: str
    """Three digits, or HUNG_UP, or SILENT."""
    head: bytes = b""
    body: bytes = b""

    @property
    def is_problem(self) -> bool:
        """Whether an error says so as all others do."""
        return b"\r\ncontent-type: application/problem+json\r\n" in self.head.lower()

    def without_its_own(self) -> tuple[list[bytes], bytes]:
        """Head and body but for what is each answer's own: its id and date."""
        lines = self.head.lower().split(b"\r\n")
        return [line for line in lines if not line.startswith((b"x-request-id:", b"date:"))], self.body


def request(
    target: bytes, *, method: bytes = b"POST", headers: Headers = (), body: bytes = b"", length: bool = True
) -> bytes:
    """A request; with `length` its Content-Length is said."""
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: regulars.test"]
    lines += [name + b": " + value for name, value in headers]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + body


@dataclass(slots=True)
class Wire:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, port: int) -> "Wire":
        """To the server."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    async def send(self, data: Sent) -> None:
        """All of it, or until the server hangs up."""
        with suppress(ConnectionError):
            if isinstance(data, AsyncIterator):
                async for piece in data:
                    await self._send(piece)
            else:
                for piece in _cut(data) if isinstance(data, bytes) else data:
                    await self._send(piece)

    async def _send(self, piece: bytes) -> None:
        self.writer.write(piece)
        await self.writer.drain()

    async def answer(self, seconds: float = ANSWER_SECONDS) -> Answer:
        """The next one."""
        try:
            async with asyncio.timeout(seconds):
                head = await self.reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
                body = await self.reader.readexactly(int(length)) if length else b""
                return Answer(head.split(b" ", 2)[1].decode(), head, body)
        except TimeoutError:
            return Answer(SILENT)
        except (ConnectionError, asyncio.IncompleteReadError):
            return Answer(HUNG_UP)

    async def ended(self, seconds: float = ANSWER_SECONDS) -> bool:
        """Whether the server hangs up in time; what it still says is dropped."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(_PIECE):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    def close(self) -> None:
        """Hangs up."""
        self.writer.close()


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))


async def answers(port: int, data: Sent, count: int = 1, seconds: float = ANSWER_SECONDS) -> list[Answer]:
    """Up to so many answers on one connection; the last one may be that there is none."""
    try:
        wire = await Wire.open(port)
    except OSError:
        return [Answer(HUNG_UP)]
    sending = asyncio.create_task(wire.send(data))
    found: list[Answer] = []
    try:
        while len(found) < count:
            found.append(await wire.answer(seconds))
            if found[-1].status in {HUNG_UP, SILENT}:
                break
    finally:
        if not sending.cancel():
            sending.result()
        wire.close()
    return found


async def answer(port: int, data: Sent, seconds: float = ANSWER_SECONDS) -> Answer:
    """The one answer."""
    return (await answers(port, data, 1, seconds))[0]
