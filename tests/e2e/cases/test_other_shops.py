"""A shop that is neither Shopify's nor WooCommerce's: what it tells by events is worth what webhooks are."""

from datetime import timedelta
from typing import Any

from libs.common.clock import DrivenClock
from tests.e2e.cases.ground import Ground

WHO = {"email": "ada@example.com", "customer_id": "7"}
OTHERS = {
    "platform": "events",
    "domain": "magento.example",
    "currency": "EUR",
    "timezone": "Europe/Berlin",
    "consent": "soft_opt_in",
}


def eur(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "EUR"}


async def test_a_shop_of_any_kind(ground: Ground, clock: DrivenClock) -> None:
    answer = await ground.http.post("/v1/stores", json=OTHERS)
    assert answer.status_code == 201, answer.text
    store = answer.json()["store_key"]
    assert answer.json()["webhook_url"] is None
    now = clock.now()
    cup = {"title": "Cup", "quantity": 2, "price": eur("9.50")}

    def event(n: int, type_: str, minutes: int, profile: dict[str, str], properties: dict[str, Any]) -> dict[str, Any]:
        time = (now + timedelta(minutes=minutes)).isoformat()
        return {
            "id": f"e{n}",
            "type": type_,
            "time": time,
            "store": store,
            "profile": profile,
            "properties": properties,
        }

    order = {"order_id": "1001", "lines": [cup], "discounts": eur("1.00"), "shipping": eur("4.90")}
    history = [
        event(1, "profile.updated", -50, WHO, {"first_name": "Ada"}),
        event(2, "checkout.started", -40, WHO | {"checkout_token": "k1"}, {"lines": [cup]}),
        event(3, "order.placed", -30, WHO | {"checkout_token": "k1"}, order),
        event(4, "order.refunded", -20, {}, {"order_id": "1001", "refund_id": "r1", "amount": eur("9.00")}),
        event(5, "survey.answered", -10, WHO, {"survey": "nps", "score": 9}),
        event(6, "checkout.started", -5, WHO | {"checkout_token": "k2"}, {"lines": [cup]}),
    ]
    for batch in (history[3:], history[:3], history):
        answer = await ground.http.post("/v1/events/batch", json=batch)
        assert (answer.status_code, answer.json()["rejected"]) == (202, 0), answer.text
    await ground.line.drained()
    profile = await ground.get(f"/v1/profiles/events:{store}:7")
    assert (await ground.get("/v1/profiles/email:ada@example.com"))["id"] == profile["id"]
    [told] = (await ground.get("/v1/orders"))["data"]
    assert (told["number"], told["store"], told["currency"]) == ("1001", store, "EUR")
    kpis = await ground.get("/v1/kpis?window=30d&currency=EUR")
    values = {name: kpi["value"] for name, kpi in kpis["kpis"].items()}
    assert (values["orders"], values["gross_sales"], values["returns"]) == (1, eur("19.00"), eur("9.00"))
    assert (await ground.get("/v1/kpis/verify"))["differences"] == []
    # The second checkout was left: its owner, a buyer of a soft opt-in store, is reminded of it once.
    clock.set(now + timedelta(minutes=45))
    await ground.line.drained()
    [mail] = (await ground.get("/v1/messages"))["data"]
    assert (mail["flow"], mail["recipient"]) == ("cart_abandonment", "a…@example.com")


async def test_what_such_a_store_does_not_take(ground: Ground) -> None:
    answer = await ground.http.post("/v1/stores", json=OTHERS | {"secrets": ["a secret that signs nothing"]})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/secrets")
    store = (await ground.http.post("/v1/stores", json=OTHERS)).json()["store_key"]
    answer = await ground.http.patch(f"/v1/stores/{store}", json={"secrets": ["a secret that signs nothing"]})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/secrets")
    answer = await ground.http.post(f"/webhooks/events/{store}", json={})
    assert answer.status_code == 404
    for platform in ("shopify", "woocommerce"):
        answer = await ground.http.post("/v1/stores", json=OTHERS | {"platform": platform})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/secrets")
