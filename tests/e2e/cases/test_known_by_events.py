"""Who is known by what events say of him alone: the API shows it, and his cart is recovered. No visitor's word does."""

from datetime import timedelta
from itertools import permutations
from typing import Any

import httpx
import pytest

from libs.common.clock import DrivenClock
from tests.conftest import START
from tests.e2e.cases.ground import Ground
from tests.e2e.cases.test_other_shops import OTHERS, eur
from tests.e2e.cases.test_pages import CUP, ORIGIN, TOKEN, Page
from tests.integration.messaging.driving import Inbox

EXPLICIT = OTHERS | {"consent": "explicit"}
SUBSCRIBED = {"channel": "email", "state": "subscribed"}
MINUTES = timedelta(minutes=1)
ADA, EVE = {"email": "Ada@example.com"}, {"email": "eve@example.com"}


@pytest.fixture
def ground(ground_with_mail: Ground) -> Ground:
    """Everything runs, and its mail arrives."""
    return ground_with_mail


async def opened(ground: Ground, **changes: Any) -> str:
    """A store whose subscribers alone are written to; its key."""
    answer = await ground.http.post("/v1/stores", json=EXPLICIT | changes)
    return str(answer.raise_for_status().json()["store_key"])


async def told(ground: Ground, *events: dict[str, Any]) -> None:
    answer = await ground.http.post("/v1/events/batch", json=events)
    assert (answer.status_code, answer.json()["rejected"]) == (202, 0), answer.text
    await ground.line.drained()


def event(
    store: str, id_: str, type_: str, who: dict[str, str], properties: dict[str, Any], minutes: int = 0
) -> dict[str, Any]:
    time = (START + minutes * MINUTES).isoformat()
    return {"id": id_, "type": type_, "store": store, "profile": who, "properties": properties, "time": time}


async def mails(ground: Ground) -> list[tuple[str, str, str | None]]:
    rows = (await ground.get("/v1/messages"))["data"]
    return [(row["flow"], row["state"], row["reason"]) for row in rows]


async def traits(ground: Ground, reference: str) -> tuple[str | None, str | None]:
    shown = (await ground.get(f"/v1/profiles/{reference}"))["traits"]
    return shown["email"], shown["phone"]


CARTS = {
    "by e-mail": ADA | {"cart_token": TOKEN},
    "of a customer without a record": ADA | {"customer_id": "9", "cart_token": TOKEN},
}
ONE_MAIL = [("cart_abandonment", "sent", None)]
NO_CONSENT = [("cart_abandonment", "skipped", "no_consent")]


@pytest.mark.parametrize("who", CARTS.values(), ids=CARTS)
async def test_a_cart_that_lay_idle_already_is_recovered(ground: Ground, inbox: Inbox, who: dict[str, str]) -> None:
    store = await opened(ground)
    await told(ground, event(store, "1", "consent.changed", ADA, SUBSCRIBED, -120))
    await told(ground, event(store, "2", "cart.changed", who, {"lines": [CUP]}, -60))
    assert await mails(ground) == ONE_MAIL
    assert inbox.to == ["ada@example.com"]
    assert await traits(ground, "email:ada@example.com") == ("ada@example.com", None)


@pytest.mark.parametrize("who", CARTS.values(), ids=CARTS)
async def test_a_cart_is_recovered_once_whatever_came_first(ground: Ground, inbox: Inbox, who: dict[str, str]) -> None:
    store = await opened(ground)
    # The cart without its owner's name, who he is, and that he may be written to.
    token = {name: value for name, value in who.items() if name != "email"}
    cart = event(store, "1", "cart.changed", token, {"lines": [CUP]})
    named = event(store, "2", "lead.created", who, {"source": "a form"})
    consent = event(store, "3", "consent.changed", ADA, SUBSCRIBED)
    histories = []
    for n, history in enumerate(permutations([cart, named, consent])):
        # A store and a person of its own.
        ours = {"store": await opened(ground, domain=f"{n}.example")}
        ada = {"email": f"ada{n}@example.com"}
        histories.append(
            [
                each | ours | {"profile": each["profile"] | (ada if "email" in each["profile"] else {})}
                for each in [*history, *history]
            ]
        )
    for at_once in zip(*histories, strict=True):
        await told(ground, *at_once)
    assert await mails(ground) == []
    await ground.line.advance(START + 45 * MINUTES)
    assert await mails(ground) == ONE_MAIL * 6
    assert sorted(inbox.to) == [f"ada{n}@example.com" for n in range(6)]


async def test_without_consent_it_is_skipped_and_says_so(ground: Ground) -> None:
    store = await opened(ground)
    await told(ground, event(store, "1", "cart.changed", CARTS["by e-mail"], {"lines": [CUP]}, -60))
    assert await mails(ground) == NO_CONSENT


async def test_a_withdrawal_told_of_the_address_alone_holds_for_the_customer(ground: Ground) -> None:
    store = await opened(ground)
    customer = ADA | {"customer_id": "9"}
    await told(
        ground,
        event(store, "1", "consent.changed", customer, SUBSCRIBED, -120),
        event(store, "2", "consent.changed", ADA, SUBSCRIBED | {"state": "unsubscribed"}, -110),
        event(store, "3", "cart.changed", customer | {"cart_token": TOKEN}, {"lines": [CUP]}, -60),
    )
    assert await mails(ground) == NO_CONSENT


SAYING: dict[str, dict[str, Any]] = {
    "lead.created": {"source": "a form"},
    "consent.changed": SUBSCRIBED,
    "cart.changed": {"lines": []},
    "product.viewed": {"product_id": "77"},
    "survey.answered": {"survey": "nps", "score": 9},
    "ticket.opened": {"ticket_id": "t"},
    "loyalty.changed": {"points": 5},
    "review.submitted": {"product_id": "77", "rating": 5},
    "back_in_stock.subscribed": {"variant_id": "v"},
    "custom.quiz.finished": {},
}


async def test_whatever_an_event_tells_its_profile_is_a_mention(ground: Ground) -> None:
    store = await opened(ground)
    said = [
        event(store, type_, type_, {"email": f"Ada{n}@Example.com", "cart_token": f"{TOKEN}-{n}"}, properties, 1)
        for n, (type_, properties) in enumerate(SAYING.items())
    ]
    phones = [{"phone": f"+49 30 1234567{n}"} for n in range(len(said))]
    before = (START - MINUTES).isoformat()
    await told(
        ground,
        *(
            each | {"id": f"{each['id']}, before", "time": before, "profile": each["profile"] | phone}
            for each, phone in zip(said, phones, strict=True)
        ),
    )
    # A later word without a number takes none away.
    await told(ground, *said)
    for n, type_ in enumerate(SAYING):
        shown = await traits(ground, f"email:ada{n}@example.com")
        assert shown == (f"ada{n}@example.com", f"+49301234567{n}"), type_
    # The customer's own record outweighs it.
    customer = {"customer_id": "7", "email": "own@example.com"}
    other = {"customer_id": "7", "email": "other@example.com", "phone": "+49 30 99999999"}
    await told(ground, event(store, "record", "profile.updated", customer, {"first_name": "Ada"}, -9))
    await told(ground, event(store, "lead", "lead.created", other, {"source": "a form"}))
    assert await traits(ground, f"events:{store}:7") == ("own@example.com", "+493099999999")


async def test_a_page_with_a_proof_of_an_address_alone(ground: Ground, inbox: Inbox) -> None:
    store = await opened(ground, platform="woocommerce", secrets=["hush, a secret"])
    key = (await ground.http.post(f"/v1/stores/{store}/public-keys", json={})).json()["public_key"]
    await told(ground, event(store, "1", "consent.changed", ADA, SUBSCRIBED))
    proof = (await ground.http.post(f"/v1/stores/{store}/proofs", json=ADA)).json()["proof"]
    async with httpx.AsyncClient(base_url=ground.http.base_url, timeout=30) as http:
        assert await Page(http, key).tell("e1", "cart.changed", {"lines": [CUP]}, proof=proof) == 202
    await ground.line.drained()
    await ground.line.advance(START + 50 * MINUTES)
    assert await mails(ground) == ONE_MAIL
    assert inbox.to == ["ada@example.com"]


async def test_a_page_with_a_proof_of_before_puts_no_former_address_back(ground: Ground, clock: DrivenClock) -> None:
    store = await opened(ground)
    key = (await ground.http.post(f"/v1/stores/{store}/public-keys", json={})).json()["public_key"]
    form, old, new = {"source": "a form"}, {"email": "old@example.com"}, {"email": "new@example.com"}
    customer = {"customer_id": "7"}
    answer = await ground.http.post(f"/v1/stores/{store}/proofs", json=customer | old)
    clock.set(START + 10 * MINUTES)
    await told(ground, event(store, "1", "lead.created", customer | old, form, 1))
    await told(ground, event(store, "2", "lead.created", customer | new, form, 5))
    ahead = {"time": (START + 14 * MINUTES).isoformat()}
    page = {"type": "product.viewed", "profile": {}, "properties": {"product_id": "77"}}
    sent = {"events": [page | {"id": "e1"}, page | {"id": "e2"} | ahead], "proof": answer.json()["proof"]}
    viewed = await ground.http.post("/v1/browser/events", params={"key": key}, json=sent, headers={"origin": ORIGIN})
    assert viewed.json()["accepted"] == 2
    await ground.line.drained()
    assert await traits(ground, f"events:{store}:7") == ("new@example.com", None)


async def test_no_mail_comes_of_an_address_that_a_visitor_typed(ground: Ground, inbox: Inbox) -> None:
    """She has subscribed, so that consent keeps nothing back; Eve, a customer, has a cart and would have it sent."""
    store = await opened(ground)
    key = (await ground.http.post(f"/v1/stores/{store}/public-keys", json={})).json()["public_key"]
    await told(
        ground,
        event(store, "1", "consent.changed", {"email": "ada@example.com", "phone": "+49 30 12345678"}, SUBSCRIBED),
    )
    before = await ground.get("/v1/profiles/email:ada@example.com")
    proof = (await ground.http.post(f"/v1/stores/{store}/proofs", json=EVE)).json()["proof"]
    cart = {"lines": [CUP]}
    typed: dict[str, Any] = {"email": "ada@example.com", "phone": "+493012345678", "customer_id": "9"}
    async with httpx.AsyncClient(base_url=ground.http.base_url, timeout=30) as http:

        async def sent(id_: str, type_: str, profile: dict[str, str], properties: dict[str, Any], **rest: Any) -> int:
            page = {"id": id_, "type": type_, "profile": profile, "properties": properties}
            answer = await http.post(
                "/v1/browser/events", params={"key": key}, json={"events": [page]} | rest, headers={"origin": ORIGIN}
            )
            return answer.status_code

        for proven in ({}, {"proof": proof}):
            for name, value in typed.items():
                for type_, properties in (("cart.changed", cart), ("custom.newsletter.joined", {})):
                    profile = {"cart_token": TOKEN, name: value}
                    assert await sent(f"{name} {type_}", type_, profile, properties, **proven) == 422
            for type_ in ("lead.created", "consent.changed", "profile.updated"):
                assert await sent(type_, type_, {"cart_token": TOKEN}, SUBSCRIBED | {"source": "x"}, **proven) == 422
        token = {"cart_token": TOKEN}
        # What it may say: a cart of nobody, and an address as if it were a property.
        assert await sent("1", "cart.changed", token, cart) == 202
        assert await sent("2", "custom.newsletter.joined", token, typed) == 202
        assert await sent("3", "product.viewed", token, {"product_id": "77"} | typed) == 202
        for name in ("buyer", "profile", "identifiers"):
            assert await sent(name, "cart.changed", token, cart | {name: typed}) == 422
    await ground.line.drained()
    await ground.line.advance(START + 50 * MINUTES)
    assert await mails(ground) == []
    assert inbox.to == []
    assert await ground.get("/v1/profiles/email:ada@example.com") == before
    [visitor] = [each for each in (await ground.get("/v1/profiles"))["data"] if each["id"] != before["id"]]
    assert (visitor["traits"]["email"], visitor["traits"]["phone"]) == (None, None)
    assert [(each["kind"], each["value"]) for each in visitor["identifiers"]] == [("cart", TOKEN)]


async def test_a_replay_completes_what_was_kept_before_and_changes_nothing_more(ground: Ground, inbox: Inbox) -> None:
    store = await opened(ground)
    who = CARTS["by e-mail"] | {"phone": "+49 30 12345678"}
    await told(
        ground,
        event(store, "1", "consent.changed", ADA, SUBSCRIBED),
        event(store, "2", "cart.changed", who, {"lines": [CUP]}),
        event(store, "3", "order.placed", EVE, {"order_id": "1", "lines": [CUP], "shipping": eur("4.90")}),
    )

    async def shown() -> tuple[Any, Any, int]:
        profiles = await ground.get("/v1/profiles")
        orders = await ground.get("/v1/orders")
        async with ground.line.database("profiles").reading() as tx:
            return profiles, orders, await tx.pg.fetchval("SELECT count(*) FROM log_customers")

    async def replayed() -> None:
        asked = {"store": store, "until": "2030-01-01T00:00:00Z"}
        (await ground.http.post("/v1/deliveries/replays", json=asked)).raise_for_status()
        await ground.line.drained()
        [replay, *_] = (await ground.get("/v1/deliveries/replays"))["data"]
        assert (replay["state"], replay["observed"], replay["changed"]) == ("done", 3, 0)

    before = await shown()
    await replayed()
    assert await shown() == before
    # As it was kept when only orders and checkouts were mentions.
    adas = "WHERE account LIKE '%:ada@example.com'"
    async with ground.line.database("profiles").transaction() as tx:
        await tx.pg.execute(f"UPDATE people SET state = ((state::jsonb) - 'mentioned')::text {adas}")
    async with ground.line.database("messaging").transaction() as tx:
        await tx.pg.execute(f"UPDATE accounts SET email = NULL {adas}")
    await ground.line.advance(START + 50 * MINUTES)
    assert await traits(ground, "email:ada@example.com") == (None, None)
    assert await mails(ground) == []
    await replayed()
    completed = await shown()
    assert completed[:2] == before[:2]
    assert inbox.to == ["ada@example.com"]
    await replayed()
    assert await shown() == completed
    assert inbox.to == ["ada@example.com"]
