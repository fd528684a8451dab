"""Signed webhooks of a Shopify store whose every figure is known, and a sender that keeps account of the answers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count as counting
from time import monotonic
from typing import Self
from urllib.parse import urlsplit

from regulars.shop import shopify
from regulars.shop.catalog import SHOPIFY, tax_within
from regulars.shop.model import Checkout, Contact, Customer, Item, Order, Product, State
from tests.waiting import pause

SHOP = SHOPIFY
BOWL = Product(id=8_412_000_000_001, variant_id=8_412_000_000_002, title="Teeschale Moos", sku="NK-000", price=2400)
BUYERS = 9973
RETRY_SECONDS = 0.2
ANSWER_SECONDS = 10.0


def store(domain: str = SHOP.domain) -> dict[str, object]:
    """Body of `POST /v1/stores` for the shop that signs here."""
    return {
        "platform": "shopify",
        "domain": domain,
        "secrets": [SHOP.secret],
        "currency": SHOP.currency,
        "timezone": SHOP.timezone,
    }


def price(n: int, revision: int = 0) -> int:
    """What the n-th order costs, in cents, tax included; each revision makes it a cent dearer."""
    return 1000 + n * 7 % 9000 + revision


def order(n: int, at: datetime, revision: int = 0) -> Order:
    """The n-th order, placed at `at`, changed each second since: one piece, paid, by one of BUYERS customers."""
    buyer = n % BUYERS
    return Order(
        store="shopify",
        id=5_800_000_000_000 + n,
        number=f"#{1001 + n}",
        status="paid",
        created_at=at,
        updated_at=at + timedelta(seconds=revision),
        contact=_contact("buyer", buyer),
        items=(_item(n, price(n, revision)),),
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
    """`order-5` of the fifth order, `order-5.2` of its second revision, `customer-…`, `checkout-…`; else free."""
    raw: bytes | None = None
    """A body that is sent instead of the state's."""
    made: tuple[str, bytes] | None = None

    def prepared(self) -> Self:
        """The same with its request made, for a load that must not wait for it."""
        return replace(self, made=self.request())

    def request(self) -> tuple[str, bytes]:
        """Headers, in lines, and body."""
        if self.made is not None:
            return self.made
        raw = shopify.body(self.state) if self.raw is None else self.raw
        made = shopify.headers(SHOP, self.topic, raw, webhook_id=self.id, event_id=None, at=self.at)
        return "".join(f"{name}: {value}\r\n" for name, value in made.items()), raw


Pace = Callable[[int], Awaitable[None]]
"""Returns when the n-th webhook may leave."""


def at_rate(rate: float) -> Pace:
    """So many a second, however long the answers take."""
    began: list[float] = []

    async def due(n: int) -> None:
        if not began:
            began.append(monotonic())
        await pause(max(0.0, began[0] + n / rate - monotonic()))

    return due


class Budget:
    """Lets the first so many leave, then more."""

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self._grown = asyncio.Event()

    def allow(self, allowed: int) -> None:
        """So many in all."""
        self._allowed = allowed
        self._grown.set()
        self._grown = asyncio.Event()

    async def __call__(self, n: int) -> None:
        """As a pace."""
        while n >= self._allowed:
            await self._grown.wait()


class _Lane:
    """One connection that is kept; a client in few lines, since what sends shares the machine with what is measured."""

    def __init__(self) -> None:
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._to = ""

    async def post(self, url: str, request: tuple[str, bytes]) -> tuple[int, str]:
        """Status and the whole answer. OSError, EOFError or TimeoutError when there is none."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._post(url, *request)
        except BaseException:
            self.close()
            raise

    async def _post(self, url: str, head: str, body: bytes) -> tuple[int, str]:
        to = urlsplit(url)
        if self._open is None or self._to != to.netloc:
            self.close()
            self._open, self._to = await asyncio.open_connection(to.hostname, to.port), to.netloc
        reader, writer = self._open
        first = f"POST {to.path} HTTP/1.1\r\nHost: {to.netloc}\r\nContent-Length: {len(body)}\r\n{head}\r\n"
        writer.write(first.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(answer.partition("\r\ncontent-length: ")[2].partition("\r\n")[0])
        answer += (await reader.readexactly(length)).decode(errors="replace")
        if "\r\nconnection: close\r\n" in answer:
            self.close()
        return int(answer.split(" ", 2)[1]), answer

    def close(self) -> None:
        """Hangs up."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


@dataclass(slots=True)
class Sender:
    """Posts webhooks, again and again until each is answered 200, and keeps account."""

    url: Callable[[], str]
    """Asked anew for each try: the address may move."""
    acknowledged: dict[str, float] = field(default_factory=dict)
    """Id of each webhook that was answered 200, and when (monotonic seconds)."""
    seconds: list[float] = field(default_factory=list)
    """How long each of these answers took."""
    unavailable: int = 0
    """Answers 503."""
    refused_after: float = 0.0
    """Seconds until the latest of them."""
    broken: int = 0
    """Tries without an answer."""
    other: list[str] = field(default_factory=list)
    """Answers that should never be."""

    async def send(self, webhooks: Iterable[Webhook], *, at_once: int = 16, pace: Pace | None = None) -> None:
        """Returns when every one is acknowledged."""
        waiting = zip(counting(), webhooks, strict=False)
        async with asyncio.TaskGroup() as group:

            async def lane() -> None:
                connection = _Lane()
                for n, webhook in waiting:
                    if pace is not None:
                        await pace(n)
                    await self._deliver(connection, webhook)
                connection.close()

            for _ in range(at_once):
                group.create_task(lane())

    async def _deliver(self, connection: _Lane, webhook: Webhook) -> None:
        request = webhook.request()
        while True:
            began = monotonic()
            try:
                status, answer = await connection.post(self.url(), request)
            except (OSError, EOFError, TimeoutError):
                self.broken += 1
                await pause(RETRY_SECONDS)
                continue
            if status == 200:
                now = monotonic()
                self.acknowledged.setdefault(webhook.id, now)
                self.seconds.append(now - began)
                return
            if status == 503 and "\r\nretry-after: " in answer:
                self.unavailable += 1
                self.refused_after = max(self.refused_after, monotonic() - began)
                await pause(RETRY_SECONDS)
                continue
            self.other.append(f"{status} {answer[-200:]}")
            if status < 500:
                return
            await pause(RETRY_SECONDS)


def orders(count: int, start: datetime, revision: int = 0, first: int = 0) -> list[Webhook]:
    """`orders/create` of `count` orders, one a second; of a revision of them `orders/updated`."""
    topic, suffix = ("orders/updated", f".{revision}") if revision else ("orders/create", "")
    placed = ((n, start + timedelta(seconds=n)) for n in range(first, first + count))
    return [Webhook(topic, order(n, at, revision), at, f"order-{n}{suffix}") for n, at in placed]


def order_and_revision(name: str) -> tuple[int, int] | None:
    """What a webhook's id says of an order; None when it is about something else."""
    kind, _, rest = name.partition("-")
    number, _, revision = rest.partition(".")
    return (int(number), int(revision or 0)) if kind == "order" else None


def abandoned(count: int, at: datetime, over: timedelta = timedelta()) -> list[Webhook]:
    """Of each subscriber `customers/create` and `checkouts/create`; the last at `at`, the first `over` before."""
    moments = [at - over * (1 - (n + 1) / count) for n in range(count)]
    registered = [Webhook("customers/create", subscriber(n, at), at, f"customer-{n}") for n, at in enumerate(moments)]
    left = [Webhook("checkouts/create", checkout(n, at), at, f"checkout-{n}") for n, at in enumerate(moments)]
    return registered + left
