"""Signed webhooks of a Shopify store whose every figure is known, and a sender that keeps account of the answers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx

from regulars.shop import shopify
from regulars.shop.catalog import SHOPIFY, tax_within
from regulars.shop.model import Checkout, Contact, Customer, Item, Order, Product, State
from tests.waiting import pause

SHOP = SHOPIFY
BOWL = Product(id=8_412_000_000_001, variant_id=8_412_000_000_002, title="Teeschale Moos", sku="NK-000", price=2400)
BUYERS = 997
RETRY_SECONDS = 0.2


def store(domain: str = SHOP.domain) -> dict[str, object]:
    """Body of `POST /v1/stores` for the shop that signs here."""
    return {
        "platform": "shopify",
        "domain": domain,
        "secrets": [SHOP.secret],
        "currency": SHOP.currency,
        "timezone": SHOP.timezone,
    }


def price(n: int) -> int:
    """What the n-th order costs, in cents, tax included."""
    return 1000 + n * 7 % 9000


def order(n: int, at: datetime) -> Order:
    """The n-th order, placed and last changed at `at`: one piece, paid, by one of BUYERS registered customers."""
    buyer = n % BUYERS
    return Order(
        store="shopify",
        id=5_800_000_000_000 + n,
        number=f"#{1001 + n}",
        status="paid",
        created_at=at,
        updated_at=at,
        contact=_contact("buyer", buyer),
        items=(_item(n, price(n)),),
    )


def subscriber(n: int, at: datetime) -> Customer:
    """A registered customer who said yes to e-mail."""
    contact = _contact("idler", n)
    return Customer(
        store="shopify",
        id=contact.customer_id or 0,
        created_at=at,
        updated_at=at,
        contact=contact,
        consent="subscribed",
        consent_at=at,
    )


def checkout(n: int, at: datetime) -> Checkout:
    """The n-th subscriber's checkout: filled at `at` and left."""
    return Checkout(
        store="shopify",
        id=9_100_000_000_000 + n,
        token=f"{n:032x}",
        cart=f"c1-{n:030x}",
        created_at=at,
        updated_at=at,
        contact=_contact("idler", n),
        items=(_item(n, price(n)),),
    )


def _contact(kind: str, n: int) -> Contact:
    base = {"buyer": 7_100_000_000_000, "idler": 7_200_000_000_000}[kind]
    return Contact(
        first=kind.capitalize(), last=f"No. {n}", country="DE", customer_id=base + n, email=f"{kind}{n}@example.com"
    )


def _item(n: int, cents: int) -> Item:
    return Item(id=13_000_000_000_000 + n, product=BOWL, quantity=1, price=cents, tax=tax_within(cents))


@dataclass(frozen=True, slots=True)
class Webhook:
    """One delivery: what Shopify would retry as it is until it is answered 200."""

    topic: str
    state: State
    at: datetime
    id: str


@dataclass(slots=True)
class Sender:
    """Posts webhooks, again and again until each is answered 200, and counts."""

    url: Callable[[], str]
    """Asked anew for each try: the address may move."""
    acknowledged: set[str] = field(default_factory=set)
    unavailable: int = 0
    """Answers 503."""
    broken: int = 0
    """Tries without an answer."""
    other: list[str] = field(default_factory=list)
    """Answers that should never be."""

    async def send(self, webhooks: list[Webhook], *, at_once: int = 16) -> None:
        """Returns when every one is acknowledged."""
        waiting = iter(webhooks)
        limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        async with httpx.AsyncClient(timeout=10, limits=limits) as client, asyncio.TaskGroup() as group:

            async def lane() -> None:
                for webhook in waiting:
                    await self._deliver(client, webhook)

            for _ in range(at_once):
                group.create_task(lane())

    async def _deliver(self, client: httpx.AsyncClient, webhook: Webhook) -> None:
        body = shopify.body(webhook.state)
        headers = shopify.headers(SHOP, webhook.topic, body, webhook_id=webhook.id, event_id=None, at=webhook.at)
        while webhook.id not in self.acknowledged:
            try:
                answer = await client.post(self.url(), content=body, headers=headers)
            except httpx.TransportError:
                self.broken += 1
                await pause(RETRY_SECONDS)
                continue
            if answer.status_code == 200:
                self.acknowledged.add(webhook.id)
            elif answer.status_code == 503 and "retry-after" in answer.headers:
                self.unavailable += 1
                await pause(RETRY_SECONDS)
            else:
                self.other.append(f"{answer.status_code} {answer.text[:200]}")
                return


def orders(count: int, start: datetime) -> list[Webhook]:
    """`orders/create` of the first `count` orders, one a second."""
    moments = [start + timedelta(seconds=n) for n in range(count)]
    return [Webhook("orders/create", order(n, at), at, f"order-{n}") for n, at in enumerate(moments)]


def abandoned(count: int, at: datetime) -> list[Webhook]:
    """Of each subscriber `customers/create` and `checkouts/create`."""
    registered = [Webhook("customers/create", subscriber(n, at), at, f"customer-{n}") for n in range(count)]
    return registered + [Webhook("checkouts/create", checkout(n, at), at, f"checkout-{n}") for n in range(count)]
