"""Which requests go the short way, and that nobody else can tell."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio
from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from libs.common.web.short import CLOSE, Answer, RawHeaders, Tell
from regulars import serving
from tests.integration.common.talk import port_of, served, talked
from tests.waiting import eventually

BODY = b"the whole body"
HEAD = b"POST /webhooks/x/st_1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)
WHOLE = HEAD + BODY
CHUNKED = b"POST /webhooks/x/st_1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class Doors:
    """An app with both ways; what goes the short one is answered when it is let go."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.short_way = self.whole
        self.app.add_api_route("/{path:path}", self._long, methods=["POST"])
        self.held: list[partial[None]] = []
        self.hold = False
        self.more = b""
        """At the end of what is answered by the short way."""
        self.closes = False
        self.asked: list[tuple[str, RawHeaders]] = []
        self.asked_long: list[RawHeaders] = []
        self.open = asyncio.Event()
        """The other way is answered only then."""
        self.open.set()

    def whole(self, path: str, raw: RawHeaders, body: bytes, tell: Tell) -> None:
        self.asked.append((path, raw))
        answer = Answer.of(200, b"text/plain", b"short " + body + self.more, *([CLOSE] if self.closes else []))
        answered = partial(tell, answer, f"id-{len(self.asked)}")
        if self.hold:
            self.held.append(answered)
        else:
            answered()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.asked_long.append(scope["headers"])
        await self.app(scope, receive, send)

    async def _long(self, request: Request) -> Response:
        await self.open.wait()
        return Response(b"long " + await request.body())


@pytest.fixture
def doors() -> Doors:
    return Doors()


@pytest_asyncio.fixture
async def server(monkeypatch: pytest.MonkeyPatch, doors: Doors) -> AsyncIterator[serving.Server]:
    monkeypatch.setattr(serving, "IDLE_SECONDS", 0.4)
    monkeypatch.setattr(serving, "DEAF_SECONDS", 0.4)
    monkeypatch.setattr(serving, "settle", lambda: None)
    async with served(doors) as running:
        yield running


@pytest.fixture
def port(server: serving.Server) -> int:
    return port_of(server)


async def test_an_answer_is_whole(port: int, doors: Doors) -> None:
    answer = await talked(port, WHOLE)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b"short " + BODY
    first, *lines = head.split(b"\r\n")
    assert first == b"HTTP/1.1 200 OK"
    assert {line.partition(b":")[0] for line in lines} == {b"content-type", b"content-length", b"date", b"x-request-id"}
    assert b"x-request-id: id-1" in lines
    assert doors.asked == [("/webhooks/x/st_1", [(b"host", b"x"), (b"content-length", b"14")])]


@pytest.mark.parametrize(
    ("parts", "way"),
    [
        ([WHOLE], b"short "),
        ([WHOLE.replace(b"x/st_1 HTTP/1.1", b"x/st_1 HTTP/1.0")], b"short "),
        ([CHUNKED + b"4\r\nthe \r\na\r\nwhole body\r\n0\r\n\r\n"], b"short "),
        ([CHUNKED + b"4\r\nthe \r\na\r\nwhole body\r\n0\r\nX-Late: 1\r\n\r\n"], b"short "),
        ([HEAD[:50], HEAD[50:] + BODY], b"short "),
        ([HEAD, BODY], b"long "),
        ([WHOLE[:-1], WHOLE[-1:]], b"long "),
        ([CHUNKED, b"e\r\nthe whole body\r\n0\r\n\r\n"], b"long "),
        ([CHUNKED + b"4\r\nthe \r\n", b"a\r\nwhole body\r\n0\r\n\r\n"], b"long "),
        ([CHUNKED + b"e\r\nthe whole body\r\n0\r\nX-La", b"te: 1\r\n\r\n"], b"long "),
        ([WHOLE.replace(b"st_1", b"st_%31")], b"long "),
        ([WHOLE.replace(b"st_1", b"st_1?a=b")], b"long "),
        ([WHOLE.replace(b"/x/", b"/../")], b"long "),
        ([WHOLE.replace(b"/webhooks", b"/webhook")], b"long "),
        ([WHOLE.replace(b"POST", b"PUT")], b"405"),
        ([WHOLE.replace(b"Host", b"Expect: 100-continue\r\nHost")], b"long "),
    ],
)
async def test_what_comes_in_one_piece_goes_it(port: int, doors: Doors, parts: list[bytes], way: bytes) -> None:
    if way == b"405":
        assert b" 405 " in await talked(port, parts[0].replace(b"Host", b"Connection: close\r\nHost"))
        assert doors.asked == []
        return
    answer = await talked(port, *parts)
    assert answer.endswith(b"\r\n\r\n" + way + BODY)
    assert len(doors.asked) == (way == b"short ")


async def test_trailers_are_no_headers(port: int, doors: Doors) -> None:
    await talked(port, CHUNKED + b"e\r\nthe whole body\r\n0\r\nX-Late: 1\r\n\r\n")
    assert doors.asked == [("/webhooks/x/st_1", [(b"host", b"x"), (b"transfer-encoding", b"chunked")])]


async def test_nor_are_they_wherever_it_is_cut(port: int, doors: Doors) -> None:
    sent = CHUNKED + b"e\r\nthe whole body\r\n0\r\nX-Late: 1\r\nExpect: 100-continue\r\n\r\n"
    for cut in range(len(CHUNKED) - 2, len(sent)):
        assert (await talked(port, sent[:cut], sent[cut:])).count(b"HTTP/1.1 ") == 1, cut
    heads = [raw for _, raw in doors.asked] + doors.asked_long
    assert len(heads) == len(sent) - len(CHUNKED) + 2
    assert {name for raw in heads for name, _ in raw} == {b"host", b"transfer-encoding"}


@pytest.mark.parametrize("sent", [WHOLE, WHOLE.replace(b"/webhooks/x", b"/webhooks/" + b"x" * 70_000)])
async def test_an_address_without_end_is_refused(port: int, sent: bytes) -> None:
    long = len(sent) > len(WHOLE)
    for cut in (len(sent) - 1, len(sent)):
        answer = await talked(port, sent[:cut], sent[cut:])
        assert answer.startswith(b"HTTP/1.1 400" if long else b"HTTP/1.1 200"), cut


async def test_who_sends_many_at_a_time_waits_for_his_turn(port: int, doors: Doors) -> None:
    """Were each of them answered as it is read, nobody else would be heard meanwhile."""
    answer = await talked(port, WHOLE * 4000, ends=10**6)
    assert len(doors.asked) == 1
    assert 0 < answer.count(b"HTTP/1.1 200") <= serving.MOST_WAITING + 2
    assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200")


async def test_nothing_is_taken_behind_an_answer_that_ends_the_connection(port: int, doors: Doors) -> None:
    doors.closes = True
    answer = await talked(port, WHOLE + WHOLE, ends=10**6)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert (len(doors.asked), len(doors.asked_long)) == (1, 0)


async def test_an_offered_upgrade_is_passed_over(port: int) -> None:
    offer = WHOLE.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost")
    assert (await talked(port, offer)).endswith(b"short " + BODY)


@pytest.mark.parametrize(
    "body", [b"xyz\r\nhello\r\n0\r\n\r\n", b"1\r\nxy\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\nno trailer\r\n\r\n"]
)
async def test_a_body_that_is_not_sent_as_http_has_it_is_told_so(port: int, doors: Doors, body: bytes) -> None:
    answer = await talked(port, CHUNKED + body)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.count(b"HTTP/1.1") == answer.count(b"application/problem+json") == 1
    assert doors.asked == []


async def test_answers_keep_their_order(port: int, doors: Doors) -> None:
    """Whichever way each of them goes, and whenever it is ready."""
    doors.hold = True
    bodies = [b"%d of the whole body" % n for n in range(6)]
    sent = [b"POST /webhooks/x/y HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(b), b) for b in bodies]
    answering = asyncio.create_task(talked(port, sent[0] + sent[1], sent[2] + sent[3][:-3], sent[3][-3:], ends=4))

    async def held() -> bool:
        return bool(doors.held)

    assert await eventually(held)
    doors.hold = False
    for answered in doors.held:
        answered()
    answer = await answering
    places = [answer.find(b" " + body) for body in bodies[:4]]
    assert places == sorted(places)
    assert places[0] > 0
    assert answer.count(b"short ") >= 1 <= answer.count(b"long ")


async def test_a_bad_request_behind_one_is_told_so_after_it(port: int, doors: Doors) -> None:
    doors.hold = True
    answering = asyncio.create_task(talked(port, WHOLE + b"BAD\r\n\r\n", ends=2))

    async def held() -> bool:
        return bool(doors.held)

    assert await eventually(held)
    for answered in doors.held:
        answered()
    answer = await answering
    assert answer.index(b"short ") < answer.index(b"HTTP/1.1 400")


@pytest.mark.parametrize("ends", [(b"Host", b"Connection: close\r\nHost"), (b"HTTP/1.1", b"HTTP/1.0")])
async def test_who_asked_for_the_end_gets_it(port: int, ends: tuple[bytes, bytes]) -> None:
    # Were it not to end, there would be two.
    answer = await talked(port, WHOLE.replace(*ends), WHOLE, ends=2)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in answer


async def test_who_left_is_answered_nothing(server: serving.Server, port: int, doors: Doors) -> None:
    doors.hold = True
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(WHOLE)

    async def held() -> bool:
        return bool(doors.held)

    async def gone() -> bool:
        return not server.server_state.connections

    assert await eventually(held)
    writer.transport.abort()
    assert await eventually(gone)
    for answered in doors.held:
        answered()
    doors.hold = False
    assert (await talked(port, WHOLE)).endswith(b"short " + BODY)


async def test_what_is_under_way_is_answered_when_the_server_stops(
    server: serving.Server, port: int, doors: Doors
) -> None:
    doors.hold = True
    answering = asyncio.create_task(talked(port, WHOLE))

    async def held() -> bool:
        return bool(doors.held)

    async def stopping() -> bool:
        return not server.servers[0].is_serving()

    assert await eventually(held)
    server.should_exit = True
    assert await eventually(stopping)
    doors.held[0]()
    assert b"connection: close" in await answering


async def test_a_connection_without_requests_ends(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    idle, idle_writer = await asyncio.open_connection("127.0.0.1", port)
    idle_writer.write(WHOLE)
    ended = asyncio.create_task(idle.read())
    async with asyncio.timeout(10):
        while not ended.done():
            writer.write(WHOLE)
            assert await reader.readuntil(BODY)
    # It was in use all the time.
    writer.write(WHOLE)
    async with asyncio.timeout(10):
        assert await reader.readuntil(BODY)
        assert await reader.read() == b""
    writer.close()
    idle_writer.close()


@pytest.mark.parametrize("first", [[WHOLE + WHOLE], [WHOLE + HEAD, BODY]])
async def test_whoever_waits_for_an_answer_is_not_idle(port: int, doors: Doors, first: list[bytes]) -> None:
    """Though another one came with its request, or in the midst of it."""
    doors.open.clear()
    answering = asyncio.create_task(talked(port, *first, ends=2))
    # By now a connection without requests has ended.
    assert await talked(port, WHOLE, ends=2)
    doors.open.set()
    assert (await answering).endswith(b"long " + BODY)


async def test_an_empty_line_keeps_no_connection(port: int) -> None:
    assert (await talked(port, WHOLE, b"\r\n", ends=2)).count(b"HTTP/1.1 200") == 1


async def test_who_never_listens_is_hung_up_on(server: serving.Server, port: int, doors: Doors) -> None:
    doors.more = b"x" * 1_000_000
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def gone() -> bool:
        writer.write(WHOLE)
        return not server.server_state.connections

    assert await eventually(gone, timeout=10)
    assert len(doors.asked) < 30
    writer.close()
