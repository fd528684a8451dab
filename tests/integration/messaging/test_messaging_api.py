"""The API over HTTP: the ledger and its explanation, flows, suppressions, and the way out."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest_asyncio

from libs.common.auth import create_key
from libs.common.contracts.customers import Fact
from libs.common.web import build_app
from services.messaging.main import pending, service, told
from services.messaging.settings import MessagingSettings
from services.messaging.unsubscribing import PURPOSE
from tests.conftest import START
from tests.integration.messaging.driving import KEYRING, World
from tests.integration.messaging.facts import STORE, checkout, consent, known, moved, order, shop

ADA, PROFILE, MAIL = "customer:st_shop:1", "p1", "ada@example.com"
SECRET = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@pytest_asyncio.fixture
async def api(world: World) -> AsyncIterator[httpx.AsyncClient]:
    settings = MessagingSettings(secret_key=SECRET, rate_limit=0)
    app = build_app([service(settings, world.database, world.clock)], settings=settings, clock=world.clock)
    key = await create_key(world.database, "default", ["*"], "test")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://api", headers={"authorization": f"Bearer {key}"}
    ) as client:
        yield client


async def get(api: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await api.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def sent(world: World) -> str:
    """A mail was sent; the path of its unsubscribe link."""
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    await world.until(START + timedelta(minutes=45))
    header = world.inbox.mails[0]["List-Unsubscribe"]
    found = re.fullmatch(r"<https://regulars\.example\.com(/u/[A-Za-z0-9._-]+)>", header)
    assert found is not None
    return found[1]


async def test_the_ledger_and_its_explanation(world: World, api: httpx.AsyncClient) -> None:
    await sent(world)
    await world.hear(moved("a2", "p2"), checkout("t2", "a2", START))
    ledger = await get(api, "/v1/messages")
    (row,) = ledger["data"]
    assert ledger["next"] is None
    assert row["recipient"] == "a…@example.com"
    assert (row["flow"], row["step"], row["state"], row["reason"]) == ("cart_abandonment", 1, "sent", None)
    assert (row["profile_id"], row["account"], row["store"]) == (PROFILE, ADA, STORE)
    assert (row["run_key"], row["checkout_token"]) == (f"{STORE}:t1", "t1")
    assert row["due_at"] == "2026-03-02T12:45:00Z"
    detail = await get(api, f"/v1/messages/{row['id']}")
    assert detail["attempts"] == 1
    assert detail["run"]["began_at"] == "2026-03-02T12:00:00Z"
    assert detail["response"].startswith("250")
    assert MAIL not in str(detail)
    assert (await api.get("/v1/messages/none")).status_code == 404


async def test_filters_and_pages(world: World, api: httpx.AsyncClient) -> None:
    facts: list[Fact] = [shop()]
    for n in range(5):
        facts += known(f"a{n}", f"p{n}", f"p{n}@example.com", START, "subscribed" if n else "pending")
        facts.append(checkout(f"t{n}", f"a{n}", START))
    await world.hear(*facts)
    await world.later(hours=1)
    seen, cursor = [], None
    while True:
        page = await get(api, "/v1/messages", limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [row["account"] for row in page["data"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert sorted(seen) == [f"a{n}" for n in range(5)]
    (skipped,) = (await get(api, "/v1/messages", state="skipped", reason="no_consent"))["data"]
    assert skipped["account"] == "a0"
    assert (await get(api, f"/v1/messages/{skipped['id']}"))["reasons"] == ["no_consent"]
    # After a merge the message is found under the profile that its account belongs to now.
    await world.hear(moved("a1", "p2", before="p1", revision=2))
    assert {r["account"] for r in (await get(api, "/v1/messages", profile="p2"))["data"]} == {"a1", "a2"}
    assert len((await get(api, "/v1/messages", store=STORE, flow="cart_abandonment", state="sent"))["data"]) == 4


async def test_nobody_and_no_store_are_not_the_same_as_no_messages(world: World, api: httpx.AsyncClient) -> None:
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), *known("a2", "p2", "b@example.com", START))
    await world.hear(moved("a2", PROFILE, before="p2", revision=2))
    for asked in ({"store": STORE}, {"profile": PROFILE}, {"state": "sent"}):
        assert (await get(api, "/v1/messages", **asked))["data"] == []
    # The last one is nobody since it was merged.
    for name, value in (("store", "st_none"), ("profile", "nobody"), ("profile", "p2")):
        answer = await api.get("/v1/messages", params={name: value})
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (404, name)
    answer = await api.get("/v1/messages", params={"profile": f"email:{MAIL}"})
    assert answer.status_code == 422
    assert "GET /v1/profiles/email:" in answer.json()["errors"][0]["detail"]


async def test_a_guest_is_masked_wherever_he_stands(world: World, api: httpx.AsyncClient) -> None:
    guest, caller, buyer = "guest:st_shop:ada@example.com", "guest:st_shop:+491701234567", "customer:st_shop:712"
    for n, account in enumerate((guest, caller, buyer)):
        facts = (*known(account, f"p{n}", f"ada.{n}@example.com", START), order(f"o{n}", account, START))
        await world.hear(shop(), *facts)
    await world.until(START + timedelta(days=30))
    rows = (await get(api, "/v1/messages"))["data"]
    shown = sorted((row["account"], row["run_key"].partition("@2026")[0]) for row in rows if row["step"] == 1)
    masked = ["customer:st_shop:712", "guest:st_shop:+…67", "guest:st_shop:a…@example.com"]
    assert shown == [(account, account) for account in masked]
    for row in rows:
        whole = str(await get(api, f"/v1/messages/{row['id']}")) + str(row)
        assert "ada" not in whole
        assert "1234567" not in whole


async def test_bad_input(world: World, api: httpx.AsyncClient) -> None:
    for path, parameters, pointer in (
        ("/v1/messages", {"state": "lost"}, "/state"),
        ("/v1/messages", {"limit": 0}, "/limit"),
        ("/v1/messages", {"cursor": "!"}, "/cursor"),
        ("/v1/suppressions", {"channel": "fax"}, "/channel"),
    ):
        answer = await api.get(path, params=parameters)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == pointer
    for body, pointer in (({}, "/paused"), ({"paused": True, "version": 2}, "/version"), ({"paused": 7}, "/paused")):
        answer = await api.patch("/v1/flows/cart_abandonment", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert (await api.patch("/v1/flows/none", json={"paused": True})).status_code == 404
    for address in ("", "ada", "a b@example.com", "ada@example.com\r\nBcc: x@example.com"):
        answer = await api.post("/v1/suppressions", json={"address": address})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/address")


async def test_a_paused_flow_holds_and_resumes(world: World, api: httpx.AsyncClient) -> None:
    assert [flow["key"] for flow in (await get(api, "/v1/flows"))["data"]] == ["cart_abandonment", "re_engagement"]
    answer = await api.patch("/v1/flows/cart_abandonment", json={"paused": True})
    assert answer.json()["paused"] is True
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    await world.later(minutes=50)
    assert await world.states() == [("cart_abandonment", 1, "held", "flow_paused")]
    await world.later(minutes=50)
    assert world.inbox.mails == []
    assert (await api.patch("/v1/flows/cart_abandonment", json={"paused": False})).json()["paused"] is False
    await world.settle()
    assert world.inbox.to == [MAIL]


async def test_looking_at_the_link_changes_nothing(world: World, api: httpx.AsyncClient) -> None:
    link = await sent(world)
    for method in ("GET", "HEAD"):
        page = await api.request(method, link)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "script-src" not in page.headers["content-security-policy"]
    page = await api.get(link)
    assert '<form method="post">' in page.text
    assert "a…@example.com" in page.text
    assert (await get(api, "/v1/suppressions"))["data"] == []


async def test_one_click_ends_it_at_once(world: World, api: httpx.AsyncClient) -> None:
    link = await sent(world)
    for _ in range(2):
        answer = await api.post(link, content="List-Unsubscribe=One-Click", headers={"authorization": ""})
        assert answer.status_code == 200
        assert "You are unsubscribed" in answer.text
    (suppression,) = (await get(api, "/v1/suppressions"))["data"]
    assert (suppression["address"], suppression["reason"]) == (MAIL, "unsubscribed")
    await world.later(days=3)
    assert len(world.inbox.mails) == 1
    assert [kind for kind, _ in await world.events()] == ["message.sent", "message.unsubscribed"]
    async with world.database.reading() as tx:
        assert await tx.pg.fetchval("SELECT reason FROM runs") == "unsubscribed"


async def test_unsubscribed_is_said_whatever_the_address_was_suppressed_for(
    world: World, api: httpx.AsyncClient
) -> None:
    link = await sent(world)
    assert (await api.post("/v1/suppressions", json={"address": MAIL})).status_code == 201
    assert (await api.post(link)).status_code == 200
    assert [kind for kind, _ in await world.events()] == ["message.sent", "message.unsubscribed"]
    # Then he subscribes again, and leaves again by the same mail.
    await world.hear(consent(ADA, "subscribed", START + timedelta(hours=2), revision=3))
    for _ in range(2):
        assert (await api.post(link)).status_code == 200
    assert [kind for kind, _ in await world.events()] == ["message.sent"] + ["message.unsubscribed"] * 2
    assert (await api.request("DELETE", "/v1/suppressions", json={"address": MAIL})).status_code == 204
    await world.hear(checkout("t2", ADA, START + timedelta(days=3)))
    await world.until(START + timedelta(days=3, hours=1))
    assert len(world.inbox.mails) == 1


async def test_links_that_are_not_ours(world: World, api: httpx.AsyncClient) -> None:
    link = await sent(world)
    (message,) = await world.messages()
    claims = {"tenant": "default", "message": message["id"], "profile": PROFILE, "channel": "email"}
    soon = world.clock.now() + timedelta(days=1)
    for wrong in ({"tenant": "other"}, {"message": "none"}, {"profile": "p2"}, {"channel": "sms"}):
        token = KEYRING.sign_token(claims | wrong, purpose=PURPOSE, expires=soon)
        assert (await api.post(f"/u/{token}")).status_code == 404
    other_use = KEYRING.sign_token(claims, purpose="track", expires=soon)
    for token in (other_use, link[3:-1], "x"):
        answer = await api.post(f"/u/{token}")
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    world.clock.set(START + timedelta(days=401))
    assert (await api.post(link)).status_code == 410
    assert (await get(api, "/v1/suppressions"))["data"] == []


async def test_suppressions(world: World, api: httpx.AsyncClient) -> None:
    assert (await api.post("/v1/suppressions", json={"address": "Ada@Example.com"})).status_code == 201
    again = await api.post("/v1/suppressions", json={"address": MAIL, "reason": "complaint"})
    assert (again.status_code, again.json()["reason"]) == (200, "manual")
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    await world.later(hours=1)
    assert await world.states() == [("cart_abandonment", 1, "skipped", "suppressed")]
    lifted = await api.request("DELETE", "/v1/suppressions", json={"address": MAIL})
    assert "content-type" not in lifted.headers
    assert lifted.status_code == 204
    assert (await api.request("DELETE", "/v1/suppressions", json={"address": MAIL})).status_code == 404


async def test_a_suppression_s_idempotency_key_keeps_no_address(world: World, api: httpx.AsyncClient) -> None:
    """Nor is it made a second time, when it was lifted meanwhile."""
    headers = {"idempotency-key": "hers"}
    first = await api.post("/v1/suppressions", json={"address": MAIL}, headers=headers)
    async with world.database.autocommit() as pg:
        kept = await pg.fetch("SELECT body FROM common.idempotency_keys WHERE position('example'::bytea in body) = 0")
    assert len(kept) == 1
    assert (await api.request("DELETE", "/v1/suppressions", json={"address": MAIL})).status_code == 204
    again = await api.post("/v1/suppressions", json={"address": MAIL}, headers=headers)
    assert (again.status_code, again.json()) == (first.status_code, first.json()) == (201, first.json())
    assert (await get(api, "/v1/suppressions"))["data"] == []


async def test_scopes_and_tenants(world: World, api: httpx.AsyncClient) -> None:
    await sent(world)
    other = await create_key(world.database, "other", ["messages:read"], "test")
    headers = {"authorization": f"Bearer {other}"}
    assert (await api.get("/v1/messages", headers=headers)).json()["data"] == []
    assert (await api.get("/v1/flows", headers=headers)).status_code == 403
    assert (await api.get("/v1/messages", headers={"authorization": "Bearer x"})).status_code == 401


async def test_a_flow_that_there_is_not_is_named(world: World, api: httpx.AsyncClient) -> None:
    """One that says nothing is not the same as one that there is not."""
    assert (await get(api, "/v1/messages", flow="re_engagement"))["data"] == []
    answer = await api.get("/v1/messages?flow=cart_abandoment")
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (404, "flow")
    await sent(world)
    assert len((await get(api, "/v1/messages", flow="cart_abandonment"))["data"]) == 1


async def test_the_page_says_for_whom_it_speaks(world: World, api: httpx.AsyncClient) -> None:
    """An address is left alone by all stores of a tenant: where there are more than one, the page says so."""
    link = await sent(world)
    others = "the other shops of its owner"
    assert others not in (await api.get(link)).text
    await world.hear(shop(store="st_sister"))
    for page in (await api.get(link), await api.post(link)):
        assert others in page.text
    again = world.clock.now() + timedelta(days=1)
    sister = "customer:st_sister:1"
    await world.hear(*known(sister, "p9", MAIL, again), checkout("t9", sister, again, store="st_sister"))
    await world.until(again + timedelta(minutes=45))
    [skipped] = (await get(api, "/v1/messages", store="st_sister"))["data"]
    assert "suppressed" in (await get(api, f"/v1/messages/{skipped['id']}"))["reasons"]


async def test_what_is_left_to_do(world: World, api: httpx.AsyncClient) -> None:
    assert await pending(world.database, START) == (0, 0, 0, None)
    await world.hear(shop(), *known(ADA, PROFILE, MAIL, START), checkout("t1", ADA, START))
    due = START + timedelta(minutes=45)
    assert await pending(world.database, START) == (0, 0, 0, due)
    assert told(await pending(world.database, due)) == ["1 timers due"]
    world.clock.set(due)
    await world.timers().run(due)
    assert told(await pending(world.database, due)) == ["1 messages to send"]
    await world.sender().claim(due, 10)
    assert told(await pending(world.database, due)) == ["1 messages being sent"]
    assert (await get(api, "/v1/pipeline/messaging"))["drained"] is False
