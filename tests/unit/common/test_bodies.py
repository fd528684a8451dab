"""Bodies that are none, or not of what a route takes."""

import gc
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from libs.common.problems import MOST_ERRORS, NUL

GOOD = {"name": "a thing"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"name": "abc"', b"[" * 1500])
async def test_bodies_that_are_no_things(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/v1/things", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("part", [b"{},", b"[],"])
async def test_a_body_of_a_million_parts_is_not_read(client: httpx.AsyncClient, part: bytes) -> None:
    """Within its bytes, but not within the time and memory of everybody else."""
    content = b'{"name": [' + part * 1_000_000 + b"0]}"
    answer = await client.post("/v1/things", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def _in_pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1_000_000):
        yield content[start : start + 1_000_000]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"name": "ab"}', b'{"name": "' + b"x" * 6_000_000 + b'"}'])
async def test_a_refused_body_is_gone_with_its_answer(client: httpx.AsyncClient, content: bytes) -> None:
    """Not when the garbage collector comes by: until then anybody could leave any number of them."""
    headers = {"content-type": "application/json"}
    await client.post("/v1/things", content=_in_pieces(content), headers=headers)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        answer = await client.post("/v1/things", content=_in_pieces(content), headers=headers)
        gc.collect()
        kept = [repr(each)[:200] for each in gc.garbage if isinstance(each, Exception)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert answer.status_code in {400, 413, 422}
    assert kept == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"name": ' + b"9" * 5000 + b"}", "a number has too many digits"),
        (b'{"name": ' + b"[" * 5000, "it is nested too deep"),
        (b'{"name": "\xff"}', "it is not UTF-8"),
    ],
)
async def test_bodies_that_are_no_json(client: httpx.AsyncClient, content: bytes, why: str) -> None:
    answer = await client.post("/v1/things", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
    assert answer.json()["errors"] == [{"pointer": "", "detail": f"This is not JSON: {why}."}]


HALVED = "A text cannot hold half of a surrogate pair."


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (rb'{"name": "abc\u0000"}', {"/name": NUL}),
        (rb'{"name": "abc\ud800"}', {"/name": HALVED}),
        (b'{"name": "abc\xed\xa0\x80"}', {"/name": HALVED}),
        ('{"name": "abc\ud800"}'.encode("utf-16", "surrogatepass"), {"/name": HALVED}),
        (rb'{"name": "abc", "secrets": ["long enough", "\udfff"], "x": {"y": ["\u0000"]}}',
         {"/secrets/1": HALVED, "/x/y/0": NUL}),
        (rb'{"name": "abc", "x": {"\ud800": "\ud800"}, "\u0000": 1}',
         {"/x": HALVED.replace("A text", "A name"), "": NUL.replace("A text", "A name")}),
    ],
)  # fmt: skip
async def test_text_that_the_database_cannot_hold(
    client: httpx.AsyncClient, content: bytes, told: dict[str, str]
) -> None:
    answer = await client.post("/v1/things", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert {error["pointer"]: error["detail"] for error in answer.json()["errors"]} == told


async def test_texts_that_only_look_so_are_kept(client: httpx.AsyncClient) -> None:
    content = rb'{"name": "\ud83d\ude00 \\ud800 \\u0000"}'
    answer = await client.post("/v1/things", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 201


async def test_many_such_texts_are_counted_and_some_named(client: httpx.AsyncClient) -> None:
    content = b'{"name": "abc", "secrets": [' + rb'"\ud800",' * 100 + rb'"\ud800"]}'
    problem = (await client.post("/v1/things", content=content, headers={"content-type": "application/json"})).json()
    assert (len(problem["errors"]), problem["errors_left_out"]) == (MOST_ERRORS, 101 - MOST_ERRORS)


async def test_of_many_deep_ones_few_pointers_are_written(client: httpx.AsyncClient) -> None:
    content = b'{"name": ' + b"[" * 900 + b",".join([rb'"\ud800"'] * 700) + b"]" * 900 + b"}"
    problem = (await client.post("/v1/things", content=content, headers={"content-type": "application/json"})).json()
    assert (len(problem["errors"]), problem["errors_left_out"]) == (MOST_ERRORS, 700 - MOST_ERRORS)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "", None])
async def test_a_body_that_does_not_call_itself_json(client: httpx.AsyncClient, media_type: str | None) -> None:
    headers = {} if media_type is None else {"content-type": media_type}
    answer = await client.post("/v1/things", content=b'{"name": "abc"}', headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert answer.json()["errors"] == [
        {"pointer": "/content-type", "detail": "Send the body as application/json.", "parameter": "content-type"}
    ]
    assert answer.headers["accept"] == "application/json"


async def test_large_bodies_are_refused_early(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/things", content=b"x" * 8193)
    assert answer.status_code == 413

    async def unending() -> object:
        while True:
            yield b"x" * 1000

    answer = await client.post("/v1/things", content=unending())  # type: ignore[arg-type]
    assert answer.status_code == 413
    assert answer.headers["x-request-id"]


async def test_what_only_the_database_finds_is_the_whole_body_s_fault(client: httpx.AsyncClient, app: FastAPI) -> None:
    app.state.ingest.fail = UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
    answer = await client.post("/v1/things", json=GOOD)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [""]
