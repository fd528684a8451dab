"""The short way: a request that is there as a whole is answered by one call and one write.

No task, no scope, no messages: for the one route that has to keep up with a sale. The server goes it (see
`regulars.answering`); what comes in pieces, or with a path that has to be decoded, reaches the same route as ASGI has
it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from msgspec import json

RawHeaders = list[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""
WEBHOOKS = "/webhooks/"
PLAIN = re.compile(WEBHOOKS.encode() + rb"[\w/-]{1,200}")
"""Paths from which it begins: nothing in them has to be decoded, nor is one too long."""
CLOSE = (b"connection", b"close")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is the same for whoever gets it, but for its id."""

    status: int
    headers: RawHeaders
    body: bytes
    head: bytes
    """The status line and `headers`, as they are sent."""
    closes: bool
    """The connection ends with it."""

    @classmethod
    def of(cls, status: int, media_type: bytes, content: bytes, *extra: tuple[bytes, bytes]) -> Self:
        """`extra`: further headers."""
        lines = [(b"content-type", media_type), (b"content-length", b"%d" % len(content)), *extra]
        first = b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
        head = first + b"".join(b"%b: %b\r\n" % line for line in lines)
        return cls(status, lines, content, head, CLOSE in extra)

    @classmethod
    def problem(cls, status: int, code: str, detail: str, *extra: tuple[bytes, bytes]) -> Self:
        """A problem document."""
        document = {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "code": code,
            "detail": detail,
        }
        return cls.of(status, b"application/problem+json", json.encode(document), *extra)

    def sent(self, *more: tuple[bytes, bytes]) -> bytes:
        """As it goes out, with these headers besides."""
        return b"".join([self.head, *[b"%b: %b\r\n" % line for line in more], b"\r\n", self.body])


Tell = Callable[[Answer, str], None]
"""Answers a request, once. The second is its id, for `X-Request-ID`."""

ShortWay = Callable[[str, RawHeaders, bytes, Tell], None]
"""A route that can be reached by it: a POST to this path, with its headers and its body. It tells the answer, at once
or later, on the loop it was asked on."""
