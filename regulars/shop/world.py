"""The simulated shop: from a seed to everything that happens in it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from regulars.shop import shopify_sales, woocommerce_sales
from regulars.shop.book import Book, after, dice_for, fill, whole_second
from regulars.shop.catalog import STORES, products
from regulars.shop.model import Aside, Cart, Change, Consent, Contact, Customer, Product, ProductState, StoreName, World
from regulars.shop.people import Membership, Person, people

MIN_HOURS_BETWEEN_VISITS = 5


def make_world(*, seed: int, start: datetime, days: int, how_many: int) -> World:
    """Everything that happens in both stores in `days` days among `how_many` people, in order of time."""
    end = start + timedelta(days=days)
    book = Book(end=end)
    crowd = people(how_many, start=start, days=days, dice=dice_for(seed, "people"))
    catalogues = {store.name: products(store.name, dice_for(seed, "products", store.name)) for store in STORES}
    for store in STORES:
        _stock(book, store.name, catalogues[store.name], dice_for(seed, "stock", store.name), start, days)
    for person in crowd:
        for store_name, member in person.stores.items():
            _membership(book, person, store_name, member, dice_for(seed, "member", person.number, store_name))
        _life(book, person, catalogues, dice_for(seed, "life", person.number), end)
    _strangers(book, catalogues["shopify"], dice_for(seed, "strangers"), start, days, how_many)
    _office(book, catalogues, dice_for(seed, "office"), start, days)
    changes = sorted(book.changes, key=_order_of_telling)
    leavers = {member.email for person in crowd if person.leaves for member in person.stores.values() if member.email}
    return World(seed=seed, start=start, end=end, stores=STORES, changes=tuple(changes), leavers=frozenset(leavers))


def _order_of_telling(change: Change) -> tuple[datetime, str]:
    return change.at, change.store


def _stock(book: Book, store: StoreName, catalogue: list[Product], dice: Random, start: datetime, days: int) -> None:
    """The catalogue is told on the first day; then stock and titles change now and then."""
    verb = {"shopify": "products/{}", "woocommerce": "product.{}"}[store]
    created, updated = ("create", "update") if store == "shopify" else ("created", "updated")
    for product in catalogue:
        at = after(start, dice, 1, 55)
        book.tell(at, store, verb.format(created), ProductState(store=store, product=product, updated_at=at, stock=20))
        for _ in range(max(1, days // 12)):
            at = after(start, dice, 60, 1440 * days)
            stock = dice.choice([0, 3, 12, 40])
            state = ProductState(store=store, product=product, updated_at=at, stock=stock)
            book.tell(at, store, verb.format(updated), state)


def _membership(book: Book, person: Person, store: StoreName, member: Membership, dice: Random) -> None:
    """Registration, and withdrawal of consent."""
    joined = member.registers_at
    if joined is not None and member.customer_id is not None:
        joined = whole_second(joined)
        customer = _customer(person, store, member, joined, joined, dice)
        if store == "shopify":
            book.tell(joined, store, "customers/create customers/update", customer, prompt=True)
        else:
            book.tell(joined, store, "customer.created customer.updated", customer, prompt=True)
    if store == "woocommerce" and member.consents and member.email and not person.leaves:
        signed_up = after(person.comes_at, dice, -20, -5)
        _consent_event(book, person, store, member, signed_up, "subscribed")
    left = member.withdraws_at
    if left is None or not member.email:
        return
    left = whole_second(left)
    if store == "shopify" and joined is not None and joined < left and member.customer_id is not None:
        consent = Consent(
            store=store, id=f"{member.customer_id}", at=left, state="unsubscribed",
            customer_id=member.customer_id, email=member.email,
        )  # fmt: skip
        book.tell(left, store, "customers_email_marketing_consent/update", consent, prompt=True)
        customer = _customer(person, store, member, joined, left, dice)
        book.tell(left, store, "customers/update", customer)
    else:
        _consent_event(book, person, store, member, left, "unsubscribed")


def _customer(
    person: Person, store: StoreName, member: Membership, joined: datetime, at: datetime, dice: Random
) -> Customer:
    printed = person.contact(store, at, dice)
    contact = Contact(
        first=person.first, last=person.last, country=person.country, customer_id=member.customer_id,
        email=member.email, phone=printed.phone,
    )  # fmt: skip
    assert member.customer_id is not None  # noqa: S101 - only registered people get here
    withdrawn = member.withdraws_at is not None and whole_second(member.withdraws_at) <= at
    consent_at = whole_second(member.withdraws_at) if withdrawn and member.withdraws_at else joined
    says = member.consents and store == "shopify"
    return Customer(
        store=store,
        id=member.customer_id,
        created_at=joined,
        updated_at=at,
        contact=contact,
        consent=("unsubscribed" if withdrawn else "subscribed") if says else None,
        consent_at=consent_at if says else None,
    )


def _consent_event(book: Book, person: Person, store: StoreName, member: Membership, at: datetime, state: str) -> None:
    """The merchant's own site tells it: WooCommerce knows nothing of consent, and a guest has no customer record."""
    assert member.email is not None  # noqa: S101 - people without an address are not asked
    registered = person.registered(store, at)
    consent = Consent(
        store=store,
        id=f"consent-{store}-{person.number}-{state}",
        at=at,
        state="subscribed" if state == "subscribed" else "unsubscribed",
        customer_id=member.customer_id if registered else None,
        email=member.email,
    )
    book.tell(at, store, "events", consent, prompt=True)


def _life(book: Book, person: Person, catalogues: dict[StoreName, list[Product]], dice: Random, end: datetime) -> None:
    """Visit after visit until the person loses interest."""
    for at in _visits(person, dice, end):
        store = dice.choice(list(person.stores))
        if store == "shopify":
            shopify_sales.visit(book, person, catalogues[store], at, dice)
        else:
            woocommerce_sales.visit(book, person, catalogues[store], at, dice)


def _visits(person: Person, dice: Random, end: datetime) -> Iterator[datetime]:
    at = whole_second(person.comes_at)
    while at < min(person.goes_at, end):
        yield at
        hours = max(MIN_HOURS_BETWEEN_VISITS, dice.expovariate(1 / (person.gap.total_seconds() / 3600)))
        at = whole_second(at + timedelta(hours=hours))


def _strangers(book: Book, catalogue: list[Product], dice: Random, start: datetime, days: int, how_many: int) -> None:
    """Carts of people who never say who they are; some are emptied again."""
    for number in range(how_many * days // 60):
        at = after(start, dice, 60, 1440 * days)
        items = fill(book, "shopify", catalogue, dice, lines=dice.choice([1, 2]))
        cart = Cart(store="shopify", token=f"c1-{dice.getrandbits(96):024x}", created_at=at, updated_at=at, items=items)
        book.tell(at, "shopify", "carts/create", cart)
        for _ in range(dice.choice([0, 1, 1, 2])):
            at = after(at, dice, 0.5, 9)
            items = () if number % 9 == 0 else fill(book, "shopify", catalogue, dice, lines=dice.choice([1, 2, 3]))
            cart = Cart(store="shopify", token=cart.token, created_at=cart.created_at, updated_at=at, items=items)
            book.tell(at, "shopify", "carts/update", cart)


def _office(book: Book, catalogues: dict[StoreName, list[Product]], dice: Random, start: datetime, days: int) -> None:
    """What happens beside the customers: test orders, the till, and messages that change no figure."""
    for day in range(0, days, 3):
        at = after(start + timedelta(days=day), dice, 500, 900)
        shopify_sales.test_order(book, catalogues["shopify"], at, dice)
        at = after(start + timedelta(days=day), dice, 500, 900)
        shopify_sales.till(book, catalogues["shopify"], at, dice)
        at = after(start + timedelta(days=day), dice, 500, 900)
        theme = {"id": 130_221_004 + day, "name": "Dämmerung", "role": "main", "updated_at": at.isoformat()}
        book.tell(at, "shopify", "themes/publish", Aside(store="shopify", at=at, body=theme))
        at = after(start + timedelta(days=day), dice, 500, 900)
        coupon = {"id": 77, "code": "fruehling", "amount": "10.00", "discount_type": "percent"}
        book.tell(at, "woocommerce", "coupon.updated", Aside(store="woocommerce", at=at, body=coupon))
