"""The people of the shop: who has which addresses, phones and devices, and in which of the two stores.

They are made so that the deterministic rules of identity find exactly them: whoever has two addresses always prints
the one phone that joins them, and only people who must stay apart (a couple with one phone, both registered; guests
who type zeros) share anything.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from random import Random

from regulars.shop.book import chance, fate
from regulars.shop.model import Contact, StoreName

_FIRST = [
    "Ada",
    "Björn",
    "Clara",
    "Dörte",
    "Emil",
    "Frieda",
    "Götz",
    "Hanna",
    "Ingrid",
    "Jonas",
    "Käthe",
    "Lars",
    "Mira",
    "Nils",
    "Oda",
    "Paul",
    "Quirin",
    "Rosa",
    "Sören",
    "Thea",
    "Uwe",
    "Vera",
    "Wim",
    "Xenia",
    "Yvonne",
    "Zoë",
]
_LAST = [
    "Albrecht",
    "Böhm",
    "Conrad",
    "Dietz",
    "Ernst",
    "Fuchs",
    "Groß",
    "Huber",
    "Ihde",
    "Jäger",
    "Köhler",
    "Lüders",
    "Möller",
    "Nowak",
    "Otto",
    "Petersen",
    "Quandt",
    "Richter",
    "Schäfer",
    "Thomsen",
    "Ulrich",
    "Vogt",
    "Winkler",
    "Yilmaz",
    "Zöllner",
]
_AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.2",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/132.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari",
)
_PHONES = {"DE": "+491512", "AT": "+43664", "NL": "+316"}
_PHONE_DIGITS = {"DE": 7, "AT": 7, "NL": 8}
NO_PHONE = "0000000000"
"""What people type who do not want to be called."""


@dataclass(slots=True)
class Membership:
    """One person in one store."""

    email: str | None
    other_email: str | None = None
    """Used now and then, as a guest."""
    customer_id: int | None = None
    registers_at: datetime | None = None
    """Before it a guest; None: for ever."""
    consents: bool = False
    """Says yes to mail: ticks the box as a guest, subscribes when registering."""
    withdraws_at: datetime | None = None


@dataclass(slots=True)
class Person:
    """One human being."""

    number: int
    first: str
    last: str
    country: str
    phone: str | None
    comes_at: datetime
    """The first visit is not before."""
    goes_at: datetime
    """No visit after."""
    gap: timedelta
    """Mean time between two visits."""
    stores: dict[StoreName, Membership]
    leaves: bool = False
    """Presses "unsubscribe" in the first mail."""
    agents: list[str] = field(default_factory=list)

    def registered(self, store: StoreName, at: datetime) -> bool:
        """Whether the person has an account in that store by then."""
        since = self.stores[store].registers_at
        return since is not None and since <= at

    def subscribed(self, store: StoreName, at: datetime) -> bool:
        """Whether the store may believe that the person wants mail."""
        member = self.stores[store]
        return member.consents and (member.withdraws_at is None or at < member.withdraws_at)

    def contact(self, store: StoreName, at: datetime, dice: Random) -> Contact:
        """What a checkout or order of that moment prints of the person."""
        member = self.stores[store]
        registered = self.registered(store, at)
        email = member.email
        if not registered and member.other_email and chance(dice, 0.4):
            email = member.other_email
        return Contact(
            first=self.first,
            last=self.last,
            country=self.country,
            customer_id=member.customer_id if registered else None,
            email=email,
            phone=self.phone,
            agent=dice.choice(self.agents),
            ip=f"198.51.100.{1 + self.number % 250}",
        )


_SPELT_OUT = {ord("ö"): "oe", ord("ä"): "ae", ord("ü"): "ue", ord("ß"): "ss", ord("ë"): "e"}


def _ascii(name: str) -> str:
    return name.lower().translate(_SPELT_OUT)


def _phone(country: str, number: int) -> str:
    digits = _PHONE_DIGITS[country]
    return _PHONES[country] + str(10 ** (digits - 1) * 2 + number * 37).zfill(digits)[-digits:]


def _memberships(
    person: Person, kind: str, dice: Random, days: int, start: datetime, ids: Mapping[StoreName, Iterator[int]]
) -> None:
    handle = f"{_ascii(person.first)}.{_ascii(person.last)}.{person.number}"
    first_email, other_email = f"{handle}@example.com", f"{handle}@mail.example.org"
    stores: list[StoreName] = ["shopify"] if kind in ("shopify", "texter", "couple") else ["woocommerce"]
    if kind in ("both", "both by phone"):
        stores = ["shopify", "woocommerce"]
    for store in stores:
        member = Membership(email=first_email)
        if kind == "both by phone" and store == "woocommerce":
            member.email = other_email
        if kind == "texter":
            member.email = None
        way = fate(dice, customer=40, later=20, guest=40)
        if kind == "couple" or (kind != "texter" and way == "customer"):
            member.registers_at = person.comes_at - timedelta(minutes=30)
        elif kind != "texter" and way == "later":
            member.registers_at = person.comes_at + timedelta(days=dice.uniform(2, max(3, days / 3)))
        if member.registers_at is not None:
            member.customer_id = next(ids[store])
        if kind != "couple" and person.phone and person.phone != NO_PHONE and chance(dice, 0.2):
            member.other_email = f"{handle}+{store[0]}@example.net"
        member.consents = chance(dice, 0.7 if store == "shopify" else 0.25)
        if not person.leaves and chance(dice, 0.12):
            member.withdraws_at = start + timedelta(days=dice.uniform(0.1, 0.9) * days, seconds=dice.randrange(60))
        person.stores[store] = member


def people(how_many: int, *, start: datetime, days: int, dice: Random) -> list[Person]:
    """The people of `days` days. Couples (one phone, two registered customers of one store) come as neighbours."""
    kinds = ["shopify", "woocommerce", "both", "both by phone", "texter", "couple"]
    weights = [38, 30, 12, 10, 4, 6]
    ids: Mapping[StoreName, Iterator[int]] = {"shopify": count(7_204_118_330_113, 4096), "woocommerce": count(11)}
    made: list[Person] = []
    while len(made) < how_many:
        kind = dice.choices(kinds, weights)[0]
        for partner in range(2 if kind == "couple" else 1):
            number = len(made)
            country = dice.choices(["DE", "AT", "NL"], [8, 1, 1])[0]
            comes = start + timedelta(days=dice.uniform(0, 0.85) * days, hours=1)
            stays = dice.choice([0.05, 0.2, 0.6, 1.0]) * days
            person = Person(
                number=number,
                first=dice.choice(_FIRST),
                last=dice.choice(_LAST),
                country=country,
                phone=_phone(country, number) if kind in ("both by phone", "texter") or chance(dice, 0.5) else None,
                comes_at=comes,
                goes_at=comes + timedelta(days=stays),
                gap=timedelta(days=dice.choice([3, 6, 10, 25])),
                stores={},
                leaves=kind in ("shopify", "woocommerce") and chance(dice, 0.08),
                agents=dice.sample(_AGENTS, 2),
            )
            if kind == "couple":
                person.country = made[-1].country if partner else country
                person.phone = made[-1].phone if partner else _phone(country, number)
            elif kind == "woocommerce" and person.phone is None and chance(dice, 0.1):
                person.phone = NO_PHONE
            _memberships(person, kind, dice, days, start, ids)
            if person.leaves:
                _only_one_address(person)
            made.append(person)
    return made


def _only_one_address(person: Person) -> None:
    """Who presses "unsubscribe" has one address and says yes once, when registering: the last word stays the last."""
    for member in person.stores.values():
        member.other_email = None
        member.consents = member.registers_at is not None
