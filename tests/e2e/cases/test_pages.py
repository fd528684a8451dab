"""A shop's page tells what its visitor does: from a browser's request to the customer that the API shows."""

import json
from datetime import timedelta
from typing import Any

import httpx

from libs.common.clock import DrivenClock
from tests.e2e.cases.ground import Ground
from tests.e2e.cases.test_other_shops import OTHERS, eur

ORIGIN = "https://magento.example"
TOKEN = "c1-4f9a7be2d8035c61"
CUP = {"title": "Cup", "quantity": 2, "price": eur("9.50")}
LURE = {"title": "You won: see evil.example", "quantity": 1, "price": eur("9.50")}


class Page:
    """A browser of nobody that we know."""

    def __init__(self, http: httpx.AsyncClient, key: str) -> None:
        self._http = http
        self._key = key

    async def tell(self, id_: str, type_: str, properties: dict[str, Any], **rest: Any) -> int:
        profile = {"cart_token": TOKEN}
        event = {"id": id_, "type": type_, "profile": profile, "properties": properties}
        answer = await self._http.post(
            "/v1/browser/events",
            params={"key": self._key},
            content=json.dumps({"events": [event]} | rest),
            headers={"content-type": "text/plain;charset=UTF-8", "origin": ORIGIN},
        )
        return answer.status_code


async def test_what_a_visitor_did_is_told_of_who_he_turned_out_to_be(ground: Ground, clock: DrivenClock) -> None:
    store = (await ground.http.post("/v1/stores", json=OTHERS)).json()["store_key"]
    made = (await ground.http.post(f"/v1/stores/{store}/public-keys", json={})).json()
    assert made["origins"] == [ORIGIN]
    now = clock.now()
    async with httpx.AsyncClient(base_url=ground.http.base_url, timeout=30) as http:
        page = Page(http, made["public_key"])
        assert await page.tell("e1", "product.viewed", {"product_id": "77"}) == 202
        assert await page.tell("e2", "cart.changed", {"lines": [LURE]}) == 202
        # Nobody's word makes an order, or is anybody's.
        assert await page.tell("e3", "order.placed", {"order_id": "1", "lines": [CUP]}) == 422
        order = {"order_id": "1001", "lines": [CUP]}
        who = {"email": "ada@example.com", "customer_id": "7"}
        # The server's first event has the id that the page used.
        served = {"id": "e1", "type": "order.placed", "store": store, "properties": order}
        served["time"] = (now - timedelta(minutes=1)).isoformat()
        answer = await ground.http.post("/v1/events", json=served | {"profile": who | {"cart_token": TOKEN}})
        assert answer.status_code == 202, answer.text
        profile = await ground.get("/v1/profiles/email:ada@example.com")
        told = (await ground.get(f"/v1/profiles/{profile['id']}/timeline"))["data"]
        assert {entry["kind"] for entry in told} >= {"product.viewed", "cart.changed", "order.placed"}
        kpis = await ground.get("/v1/kpis?window=30d&currency=EUR")
        values = {name: kpi["value"] for name, kpi in kpis["kpis"].items()}
        assert (values["orders"], values["gross_sales"]) == (1, eur("19.00"))
        assert (await ground.get("/v1/kpis/verify"))["differences"] == []
        # Of the cart that nobody vouched for no mail comes.
        clock.set(now + timedelta(minutes=50))
        await ground.line.drained()
        assert (await ground.get("/v1/messages"))["data"] == []
        # She comes back and logs in; the shop's server says so, and her next cart is hers.
        asked = await ground.http.post(f"/v1/stores/{store}/proofs", json=who)
        later = clock.now()
        assert await page.tell("e4", "cart.changed", {"lines": [CUP, LURE]}, proof=asked.json()["proof"]) == 202
        await ground.line.drained()
        clock.set(later + timedelta(minutes=50))
        await ground.line.drained()
    [mail] = (await ground.get("/v1/messages"))["data"]
    assert (mail["flow"], mail["recipient"]) == ("cart_abandonment", "a…@example.com")
