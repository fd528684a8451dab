"""What is wrong in thousands of places at once is told of in few words, and in little time."""

import json

import pytest

from libs.common.problems import LONGEST_POINTER, MOST_ERRORS
from services.ingest.accepting import MOST_TOLD
from services.ingest.event_models import MOST_EVENTS
from tests.integration.ingest.conftest import Grounds
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.pages import browsing, public_key, view

LARGEST_ANSWER = 16 * 1024
KIB = 1024


def names(n: int) -> dict[str, int]:
    return {f"name {each}": each for each in range(n)}


@pytest.mark.parametrize("path", ["/v1/events", "/v1/stores", "/v1/privacy-requests", "/v1/backfills"])
async def test_an_object_with_more_names_than_any_has_is_refused_in_one_word(ground: Ground, path: str) -> None:
    answer = await ground.http.post(path, json=names(50_000))
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": "", "detail": "There are too many names in it."}]


async def test_so_is_one_within_another(ground: Ground) -> None:
    event = view(store=await ground.register()) | {"profile": names(1000)}
    told = (await ground.http.post("/v1/events", json=event)).json()
    assert [error["pointer"] for error in told["errors"]] == ["/profile"]


async def test_of_fewer_some_are_named_and_the_others_counted(ground: Ground) -> None:
    event = view(store=await ground.register()) | names(MOST_ERRORS) | {"profile": names(5)}
    told = (await ground.http.post("/v1/events", json=event)).json()
    assert (len(told["errors"]), told["errors_left_out"]) == (MOST_ERRORS, 5)
    few = (await ground.http.post("/v1/events", json=event | {"profile": {"cart_token": "7"}})).json()
    assert (len(few["errors"]), "errors_left_out" in few) == (MOST_ERRORS, False)


async def test_a_name_is_not_repeated_at_length(ground: Ground) -> None:
    event = view(store=await ground.register()) | {"x" * 1_000_000: 1}
    answer = await ground.http.post("/v1/events", json=event)
    [error] = answer.json()["errors"]
    assert (len(error["pointer"]), error["pointer"][:3], error["pointer"][-1]) == (LONGEST_POINTER, "/xx", "…")


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
async def test_a_batch_tells_of_each_row_and_of_little_more(ground: Ground, media_type: str) -> None:
    store = await ground.register()
    wrong = view(store=store) | names(MOST_ERRORS) | {"profile": names(MOST_ERRORS)}
    sent = [wrong] * 60 + [names(1000)] * 100 + [view(store=store)]
    content = json.dumps(sent) if media_type == "application/json" else "\n".join(map(json.dumps, sent))
    answer = await ground.http.post("/v1/events/batch", content=content, headers={"content-type": media_type})
    assert answer.status_code == 202
    rows = answer.json()["events"]
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, 160)
    assert all(row["errors"] for row in rows[:-1])
    assert [len(row["errors"]) for row in rows[:6]] == [MOST_ERRORS] * (MOST_TOLD // MOST_ERRORS) + [1]
    assert [row["errors_left_out"] for row in rows[:6]] == [MOST_ERRORS] * 5 + [2 * MOST_ERRORS - 1]
    assert [(len(row["errors"]), row["errors_left_out"]) for row in rows[60:160]] == [(1, 0)] * 100
    assert len(answer.content) < 2 * LARGEST_ANSWER


async def test_a_thousand_rows_that_are_wrong_in_one_place_are_all_told(ground: Ground) -> None:
    rows = [view(f"e-{n}", store="st_none") for n in range(MOST_EVENTS)]
    answer = await ground.http.post("/v1/events/batch", json=rows)
    pointers = [[error["pointer"] for error in row["errors"]] for row in answer.json()["events"]]
    assert pointers == [["/store"]] * MOST_EVENTS


async def test_a_browser_is_told_as_little(ground: Ground) -> None:
    key = await public_key(ground, await ground.register())
    async with browsing(ground, key) as page:
        for events, errors in (
            ([names(3500)], 1),
            ([view() | names(MOST_ERRORS)] * 10, 10 * MOST_ERRORS),
            ([{}] * 50, 50 * 3),
        ):
            answer = await page.send(*events)
            assert answer.status_code == 422
            told = answer.json()
            assert len(told["errors"]) == min(errors, MOST_ERRORS)
            assert len(told["errors"]) + told.get("errors_left_out", 0) == errors
            assert len(answer.content) < LARGEST_ANSWER
        answer = await page.post(json.dumps({"events": [view()]} | names(3000)))
        assert [error["pointer"] for error in answer.json()["errors"]] == [""]


async def test_what_a_browser_sends_is_charged_by_its_size_too(grounds: Grounds) -> None:
    async with grounds(browser_address_rate=16) as ground:
        key = await public_key(ground, await ground.register())
        async with browsing(ground, key) as page:
            large = json.dumps({"events": [view(note="x" * 60 * KIB)]})
            answers = [(await page.post(large)).status_code for _ in range(3)]
        assert answers == [422, 422, 429]
        # Of many small ones each counts, and their size not once more.
        async with browsing(ground, key, address="203.0.113.8") as page:
            answers = [(await page.send(*(view(f"{n}-{m}") for m in range(8)))).status_code for n in range(3)]
        assert answers == [202, 202, 429]
