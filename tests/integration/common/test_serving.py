"""Senders who do not come to the point are hung up on; the others are not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fastapi import FastAPI, Request, Response

from regulars import serving
from tests.integration.common.talk import port_of, served, talked
from tests.waiting import eventually

REQUEST = b"GET /openapi.json HTTP/1.1\r\nHost: regulars.test\r\n\r\n"


def _echo() -> FastAPI:
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body())

    @app.post("/names")
    async def names(request: Request) -> Response:
        await request.body()
        return Response(b",".join(name for name, _ in request.headers.raw) + b" of the whole body")

    @app.get("/long")
    async def long(size: int = 20_000_000) -> Response:
        return Response(b"x" * size)

    return app


@pytest_asyncio.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[serving.Server]:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(serving, "WHOLE_SECONDS", 0.4)
    monkeypatch.setattr(serving, "DEAF_SECONDS", 0.4)
    monkeypatch.setattr(serving, "settle", lambda: None)
    async with served(_echo()) as running:
        yield running


@pytest.fixture
def port(server: serving.Server) -> int:
    return port_of(server)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/stores HTTP/1.1\r\nHost: x\r\nAuthor"])
async def test_headers_that_do_not_come(port: int, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def test_a_second_request_that_stops_in_its_headers(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    assert b"200 OK" in await reader.readline()
    writer.write(b"POST /v1")
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()


async def test_a_connection_that_is_kept_is_not_late(port: int) -> None:
    """Idle between two requests is no offence: that is the keep-alive's own, longer, limit."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    late, late_writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    assert b"200 OK" in await reader.readline()
    async with asyncio.timeout(10):
        assert await late.read() == b""  # by now the limit has passed
    writer.write(REQUEST)
    async with asyncio.timeout(10):
        while b"200 OK" not in await reader.readline():
            pass
    writer.close()
    late_writer.close()


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAE\r\n"


async def test_an_offered_upgrade_is_passed_over(port: int) -> None:
    """Java's client offers HTTP/2 with every request. Its body must not be lost, nor be read as a request."""
    request = b"POST /echo HTTP/1.1\r\nHost: x\r\n" + OFFER + b"Content-Length: 14\r\n\r\nthe whole body"
    for cut in range(len(request)):
        answer = await talked(port, request[:cut], request[cut:])
        assert answer.count(b"HTTP/1.1 200") == 1, cut
        assert answer.endswith(b"the whole body"), cut


async def test_requests_that_offer_an_upgrade_follow_one_another(port: int) -> None:
    """What lies in the second one's body is never answered as if it were a request."""
    hidden = b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nwhole body"
    second = b"POST /echo HTTP/1.1\r\nHost: x\r\n" + OFFER + b"Content-Length: %d\r\n\r\n" % len(hidden)
    chunked = b"POST /echo HTTP/1.1\r\nHost: x\r\n" + OFFER + b"Transfer-Encoding: chunked\r\n\r\n"
    chunks = b"4\r\nthe \r\na\r\nwhole body\r\n0\r\n\r\n"
    answer = await talked(port, REQUEST + second, hidden)
    assert (answer.count(b"HTTP/1.1 200"), answer.count(b"HTTP/1.1 ")) == (2, 2)
    assert answer.endswith(hidden)
    last = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nwhole body"
    answer = await talked(port, REQUEST + chunked + chunks + last, ends=2)
    assert (answer.count(b"HTTP/1.1 200"), answer.count(b"HTTP/1.1 ")) == (3, 3)


async def test_bytes_of_a_body_are_never_taken_for_a_head(port: int) -> None:
    """However a head is cut, and whatever its body looks like."""
    hidden = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    body = b"a" * 20 + b"\r\nupgrade:" * 40 + hidden + b"the whole body"
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    for cut in range(len(head) - 6, len(head) + 2):
        answer = await talked(port, head[:cut], head[cut:] + body)
        assert answer.count(b"HTTP/1.1 200") == answer.count(b"HTTP/1.1 ") - body.count(b"HTTP/1.1 ") == 1, cut
        assert answer.endswith(body), cut


async def test_a_tunnel_ends_the_connection(port: int) -> None:
    answer = await talked(port, b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n" + REQUEST)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b"200" not in answer


async def test_headers_without_end_are_refused(port: int) -> None:
    line = b"X-Filler: " + b"x" * 8000 + b"\r\n"
    answer = await talked(port, b"POST /echo HTTP/1.1\r\nHost: x\r\n", *[line] * 9)
    assert answer.startswith(b"HTTP/1.1 431")
    assert b"application/problem+json" in answer


async def test_trailers_without_end_are_hung_up_on(port: int) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    with contextlib.suppress(ConnectionError):
        assert b"200" not in await talked(port, head, *[b"X-Filler: " + b"x" * 8000 + b"\r\n"] * 100)


async def test_a_body_that_trickles_past_its_answer_is_hung_up_on(port: int) -> None:
    """The route has answered; the sender goes on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 404")
    writer.close()


async def test_requests_that_come_in_one_piece_are_answered_in_order(port: int) -> None:
    bodies = [b"%d" % n * 2000 for n in range(100)]
    sent = b"".join(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(b), b) for b in bodies)
    assert len(sent) > 4 * serving.HEAD_BYTES
    answer = await talked(port, sent + REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
    places = [answer.find(b"\r\n\r\n" + body) for body in bodies]
    assert places == sorted(places)
    assert places[0] > 0
    assert answer.count(b"HTTP/1.1 200") == 101


async def test_who_sends_without_end_before_he_listens_is_answered_some(port: int) -> None:
    answer = await talked(port, REQUEST * 4000)
    assert 0 < answer.count(b"HTTP/1.1 200") <= serving.MOST_WAITING + 1
    assert answer.count(b"HTTP/1.1") == answer.count(b"HTTP/1.1 200")


async def test_who_never_listens_is_hung_up_on(server: serving.Server, port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
    connections = server.server_state.connections

    async def taken() -> bool:
        return bool(connections)

    async def gone() -> bool:
        return not connections

    assert await eventually(taken)
    assert await eventually(gone, timeout=10)
    writer.close()


CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_CHUNKS = [
    b"xyz\r\nhello\r\n0\r\n\r\n",
    b"-1\r\nx\r\n0\r\n\r\n",
    b"f" * 20 + b"\r\nx\r\n0\r\n\r\n",
    b"1\nx\n0\n\n",
    b"1\r\nxy\r\n0\r\n\r\n",
    b"1\r\nx\r\n0\r\nno trailer\r\n\r\n",
]


@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED.replace(b"chunked", b"xchunked") + b"1\r\nx\r\n0\r\n\r\n",
        CHUNKED.replace(b"chunked", b"chunked, identity") + b"1\r\nx\r\n0\r\n\r\n",
        CHUNKED.replace(b"Host", b"Content-Length: 3\r\nHost") + b"1\r\nx\r\n0\r\n\r\n",
        *(CHUNKED + body for body in NO_CHUNKS),
    ],
)
async def test_a_body_that_is_not_sent_as_http_has_it_is_told_so(port: int, sent: bytes) -> None:
    answer = await talked(port, sent)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.count(b"HTTP/1.1") == answer.count(b"application/problem+json") == 1


@pytest.mark.parametrize("body", NO_CHUNKS)
async def test_so_it_is_when_the_route_waits_for_it_already(port: int, body: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(CHUNKED.replace(b"Host", b"Expect: 100-continue\r\nHost"))
    async with asyncio.timeout(10):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.count(b"HTTP/1.1") == answer.count(b"application/problem+json") == 1
    writer.close()


BAD_HEADS = [
    b"BAD\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("bad", [*BAD_HEADS, *(CHUNKED + body for body in NO_CHUNKS)])
@pytest.mark.parametrize("before", [1, 3])
async def test_what_came_before_a_bad_request_is_answered(port: int, bad: bytes, before: int) -> None:
    """It was done: whoever sent it must not take the other's refusal for its own."""
    body = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nkept"
    answers = await talked(port, body * before + bad)
    assert answers.count(b"200 OK") == answers.count(b"kept") == before
    *_, last = answers.split(b"kept")
    assert last.startswith(b"HTTP/1.1 400 ")
    assert last.count(b"HTTP/1.1") == last.count(b"application/problem+json") == last.count(b"connection: close") == 1


async def test_who_asked_for_the_end_gets_no_more(port: int) -> None:
    body = b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nkept"
    answers = await talked(port, body + CHUNKED + b"xyz\r\n")
    assert answers.endswith(b"\r\n\r\nkept")


async def test_nothing_is_told_before_the_answer_to_another_request(port: int) -> None:
    """However long that takes."""
    size = 2_000_000
    asked = REQUEST.replace(b"/openapi.json", b"/long?size=%d" % size)
    answer = await talked(port, asked + CHUNKED + b"xyz\r\n")
    body = answer.partition(b"\r\n\r\n")[2]
    assert body[:size] == b"x" * size
    assert body[size:].startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize("chunks", [b"", b"1\r\nx\r\n1\r\ny\r\n"])
async def test_trailers_are_no_headers(port: int, chunks: bytes) -> None:
    sent = CHUNKED.replace(b"/echo", b"/names") + chunks + b"0\r\nX-Signed: yes\r\nX-Again: yes\r\n\r\n"
    answer = await talked(port, sent)
    assert answer.endswith(b"\r\n\r\nhost,transfer-encoding of the whole body")


async def test_what_is_no_http_is_told_so(port: int) -> None:
    answer = await talked(port, b"hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in answer
