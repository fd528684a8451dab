"""The shop's book: what happened, in the order in which it is written down; and the ids that platforms give."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from regulars.shop.catalog import FIRST_BIG_ID, tax_upon, tax_within
from regulars.shop.model import Change, Item, Product, State, StoreName


def dice_for(seed: int, *names: object) -> Random:
    """A source of chance of its own for every subject, so that one change in the shop does not shuffle all of it."""
    return Random(":".join(map(str, (seed, *names))))  # noqa: S311 - a simulation must repeat


@dataclass(slots=True)
class Book:
    """Collects changes until the end of the simulation; hands out ids."""

    end: datetime
    changes: list[Change] = field(default_factory=list)
    _ids: dict[str, int] = field(default_factory=dict)

    def tell(self, at: datetime, store: StoreName, topics: str, state: State, *, prompt: bool = False) -> None:
        """Write a change down; `topics` are separated by blanks. What lies beyond the end does not happen."""
        if at < self.end:
            self.changes.append(Change(at=at, store=store, topics=tuple(topics.split()), state=state, prompt=prompt))

    def next_id(self, store: StoreName, kind: str) -> int:
        """Shopify counts in large steps, every fifth order beyond 2^53; WooCommerce counts posts one by one."""
        if store == "woocommerce":
            self._ids["post"] = self._ids.get("post", 1000) + 1
            return self._ids["post"]
        number = self._ids[kind] = self._ids.get(kind, 0) + 1
        if kind == "order" and number % 5 == 0:
            return FIRST_BIG_ID + 1_000_000 + number * 2
        return 5_634_029_117_440 + number * 32_768 + 7

    def next_number(self, store: StoreName) -> int:
        """The number printed on a Shopify order."""
        key = f"{store} number"
        self._ids[key] = self._ids.get(key, 1000) + 1
        return self._ids[key]


def chance(dice: Random, probability: float) -> bool:
    """True as often as `probability` says."""
    return dice.random() < probability


def fate(dice: Random, **weights: int) -> str:
    """One of the names, as often as its weight says."""
    return dice.choices(list(weights), list(weights.values()))[0]


def whole_second(at: datetime) -> datetime:
    """Platforms print seconds."""
    return at.replace(microsecond=0)


def after(at: datetime, dice: Random, low: float, high: float) -> datetime:
    """A moment `low` to `high` minutes later, on a whole second."""
    return whole_second(at + timedelta(minutes=dice.uniform(low, high)))


def fill(book: Book, store: StoreName, catalogue: list[Product], dice: Random, *, lines: int) -> tuple[Item, ...]:
    """Some lines of distinct products, undiscounted."""
    return tuple(
        priced(
            Item(id=book.next_id(store, "line"), product=product, quantity=dice.choice([1, 1, 1, 2, 3]), price=0), store
        )
        for product in dice.sample(catalogue, lines)
    )


def priced(item: Item, store: StoreName, *, percent_off: int = 0) -> Item:
    """The line with its price, discount and tax as that store prints them."""
    with_tax = item.product.price
    price = with_tax if store == "shopify" else with_tax - tax_within(with_tax)
    discount = price * item.quantity * percent_off // 100
    paid = price * item.quantity - discount
    tax = tax_within(paid) if store == "shopify" else tax_upon(paid)
    return Item(id=item.id, product=item.product, quantity=item.quantity, price=price, discount=discount, tax=tax)
