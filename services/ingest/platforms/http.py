"""Asking a shop over HTTP: in bounds of time and size, again after a hiccup, and never led elsewhere."""

import asyncio
import zlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

import httpx
import msgspec
import stamina

from services.ingest.platforms.hosts import PinnedTransport
from services.ingest.platforms.port import Refused, TooLarge, Unauthorized, Unavailable

SECONDS = 20.0
"""Without a sign of life; shops are slow."""
DELIVERY_SECONDS = 5.0
"""As long as Shopify waits for a webhook's answer."""
WHOLE_SECONDS = 60.0
"""Of one request, however many signs of life there are in it."""
LARGEST_ANSWER = 12 * 1024 * 1024
"""A hundred orders of 80 lines each, or two of the largest that are taken: each of several is in memory at a time."""
TRIES = 3
LONGEST_WAIT = 5.0
"""Whoever wants us to wait longer gets his job put off."""
MOST_TOLD = 3600.0
"""Whatever a shop says: in an hour it may be asked again."""
MOST_DIGITS = 12
AGENT = "Regulars"
JSON = "application/json"

Headers = Mapping[str, str]


class Answer(NamedTuple):
    """A good one."""

    content: bytes
    headers: Headers


class _Error(msgspec.Struct):
    """What WordPress says of an error."""

    code: str = ""


class ShopHttp:
    """One shop's address, and how to ask it."""

    def __init__(
        self, base: str, *, auth: httpx.Auth | tuple[str, str] | None, inside: bool, headers: Headers | None = None
    ) -> None:
        """`base`: scheme, host and perhaps port; `inside`: see PinnedTransport; `headers`: of each request."""
        url = httpx.URL(base)
        self._client = httpx.AsyncClient(
            base_url=url,
            auth=auth,
            timeout=SECONDS,
            follow_redirects=False,
            trust_env=False,
            headers={**(headers or {}), "user-agent": AGENT, "accept": "application/json", "accept-encoding": "gzip"},
            transport=PinnedTransport(url.raw_host.decode("ascii"), inside=inside),
        )

    async def get(self, path: str, params: Mapping[str, str]) -> Answer:
        """What lies there. Raises Refused and Unavailable."""
        return _there(await self.find(path, params))

    async def find(self, path: str, params: Mapping[str, str]) -> Answer | None:
        """As `get`; None when the shop says that there is no object of this id."""
        return await self._asked(partial(self._client.build_request, "GET", path, params=params))

    async def post(self, path: str, content: bytes, headers: Headers | None = None) -> Answer:
        """What it says to this JSON, which only asks: it may be sent again. `headers`: further ones, or others."""
        told = {"content-type": JSON, **(headers or {})}
        build = partial(self._client.build_request, "POST", path, content=content, headers=told)
        return _there(await self._asked(build))

    async def change(self, method: str, path: str, content: bytes, headers: Headers | None = None) -> Answer:
        """What it says to this JSON, which makes or changes something: it is sent once."""
        told = {"content-type": JSON, **(headers or {})}
        return _there(await self._once(self._client.build_request(method, path, content=content, headers=told)))

    async def deliver(self, path: str, content: bytes, headers: Headers) -> tuple[int, Headers]:
        """Status and headers of the answer, whatever they are. Raises Unavailable when there is none."""
        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                request = self._client.build_request("POST", path, content=content, headers=headers)
                response = await self._client.send(request, stream=True)
                await response.aclose()
        except (httpx.HTTPError, TimeoutError) as error:
            raise Unavailable(f"nothing answers within {DELIVERY_SECONDS:g} s: {type(error).__name__}") from error
        return response.status_code, response.headers

    async def aclose(self) -> None:
        """Ends its connections."""
        await self._client.aclose()

    async def _asked(self, build: Callable[[], httpx.Request]) -> Answer | None:
        answer: Answer | None = None
        async for attempt in stamina.retry_context(on=_worth_another_try, attempts=TRIES, timeout=2 * WHOLE_SECONDS):
            with attempt:
                answer = await self._once(build())
        return answer

    async def _once(self, request: httpx.Request) -> Answer | None:
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                response = await self._client.send(request, stream=True)
                try:
                    if response.status_code == HTTPStatus.NOT_FOUND and _no_such_id(await _content(response)):
                        return None
                    _check(response)
                    return Answer(await _content(response), response.headers)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, TimeoutError) as error:
            raise Unavailable(f"the shop does not answer: {type(error).__name__}") from error


def _there(answer: Answer | None) -> Answer:
    if answer is None:
        raise Refused(f"the shop answers {HTTPStatus.NOT_FOUND.value}")
    return answer


async def _content(response: httpx.Response) -> bytes:
    """The body, unpacked by us: a client that does it unpacks whatever a few bytes claim to be."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise Refused("the shop's answer is packed in a way that was not asked for")
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS) if encoding == "gzip" else None
    content = bytearray()
    async for chunk in response.aiter_raw():
        try:
            content += unpacker.decompress(chunk, LARGEST_ANSWER + 1 - len(content)) if unpacker else chunk
        except zlib.error as error:
            raise Unavailable("the shop's answer cannot be unpacked") from error
        if len(content) > LARGEST_ANSWER:
            raise TooLarge(f"the shop's answer is larger than {LARGEST_ANSWER} bytes")
        if unpacker is not None and unpacker.eof:
            break  # whatever comes behind would be kept, and never counted
    return bytes(content)


def _no_such_id(content: bytes) -> bool:
    try:
        return msgspec.json.decode(content, type=_Error).code.endswith("_invalid_id")
    except (msgspec.MsgspecError, RecursionError):
        return False


def _check(response: httpx.Response) -> None:
    status = response.status_code
    if status in {HTTPStatus.OK, HTTPStatus.CREATED}:
        return
    if status == HTTPStatus.UNAUTHORIZED:
        raise Unauthorized(f"the shop refuses these credentials ({status})")
    if status == HTTPStatus.FORBIDDEN:
        raise Refused(f"the shop refuses these credentials ({status})")
    if response.is_redirect:
        raise Refused(f"the shop answers with a redirect ({status}): is it its right address?")
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or response.is_server_error:
        raise Unavailable(f"the shop answers {status}", retry_after=retry_after(response.headers))
    raise Refused(f"the shop answers {status}")


def retry_after(headers: Headers) -> float | None:
    """Seconds that a host wants to be left alone; None when it does not say."""
    text = headers.get("retry-after", "")
    if (seconds := whole_number(text)) is not None:
        return min(float(seconds), MOST_TOLD)
    try:
        told, dated = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("date", ""))
        # By the shop's own clock.
        return min(max(0.0, (told - dated).total_seconds()), MOST_TOLD)
    except (ValueError, TypeError, OverflowError):
        return None


def whole_number(text: str) -> int | None:
    """Of a header that counts something; None for whatever else it holds."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None


def _worth_another_try(error: Exception) -> bool | timedelta:
    if not isinstance(error, Unavailable):
        return False
    if error.retry_after is None:
        return True
    return timedelta(seconds=error.retry_after) if error.retry_after <= LONGEST_WAIT else False
