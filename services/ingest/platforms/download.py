"""Reading a file that a shop has made for us, on whatever host its own answer named, from any place on.

That host gets nothing of ours: no credentials, and no address of our own network is asked for it. A file is read in
pieces, so that no more than a piece is ever in memory, however large it is.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import httpx

from services.ingest.platforms.hosts import PinnedTransport
from services.ingest.platforms.http import AGENT, SECONDS, retry_after
from services.ingest.platforms.port import NotAsked, Refused, Unavailable

LONGEST_URL = 8192
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)")


@asynccontextmanager
async def opened(url: str, *, offset: int, inside: bool) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """The file from byte `offset` on. Raises Refused and Unavailable, the latter while it is read, too.

    `inside`: whether addresses of our own network may be asked, and without TLS.
    """
    address = _allowed(url, inside=inside)
    headers = {"user-agent": AGENT, "accept-encoding": "identity"}
    if offset:
        headers["range"] = f"bytes={offset}-"
    transport = PinnedTransport(address.raw_host.decode("ascii"), inside=inside)
    async with httpx.AsyncClient(
        timeout=SECONDS, follow_redirects=False, trust_env=False, transport=transport
    ) as client:
        try:
            async with client.stream("GET", address, headers=headers) as response:
                yield _content(response, offset)
        except httpx.HTTPError as error:
            raise _unread(error) from error


def _unread(error: Exception) -> Unavailable:
    return Unavailable(f"the file cannot be read: {type(error).__name__}")


def _allowed(url: str, *, inside: bool) -> httpx.URL:
    try:
        address = httpx.URL(url) if len(url) <= LONGEST_URL else httpx.URL()
    except httpx.InvalidURL:
        address = httpx.URL()
    if not address.host or address.userinfo or address.scheme not in ({"https", "http"} if inside else {"https"}):
        raise NotAsked("the shop names no address on https for its file")
    return address


async def _content(response: httpx.Response, offset: int) -> AsyncIterator[bytes]:
    skipped = _skipped(response, offset)
    if skipped is None:
        return
    try:
        async for chunk in response.aiter_raw():
            piece = chunk[min(skipped, len(chunk)) :]
            skipped -= len(chunk) - len(piece)
            if piece:
                yield piece
    except httpx.HTTPError as error:
        raise _unread(error) from error


def _skipped(response: httpx.Response, offset: int) -> int | None:
    """How many bytes come before those that were asked for; None: there are none behind."""
    status = response.status_code
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or response.is_server_error:
        raise Unavailable(f"the file's host answers {status}", retry_after=retry_after(response.headers))
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refused("the file is packed in a way that was not asked for")
    match status:
        case HTTPStatus.OK:
            return offset
        case HTTPStatus.PARTIAL_CONTENT:
            found = _RANGE.fullmatch(response.headers.get("content-range", ""))
            if found is None or int(found[1]) != offset:
                raise Refused("the file's host answers with another part of it")
            return 0
        case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        case _:
            raise Refused(f"the file's host answers {status}")
