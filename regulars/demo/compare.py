"""The platform's figures against the shop's own truth: everything that the REST API says, and every mail."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from math import isclose
from typing import Any

from regulars.demo.drive import Drive
from regulars.demo.stage import SERVICES, Stage
from regulars.shop.kpis import WINDOWS, Figures, books, kpis
from regulars.shop.ledger import Sale, sales
from regulars.shop.messages import CART
from regulars.shop.model import StoreName
from regulars.shop.rules import RULES

SHOWN = 12
"""Differences of one kind that are listed."""
AMOUNTS = {
    "gross": "gross",
    "discounts": "discounts",
    "returns": "returns",
    "net": "net",
    "shipping": "shipping",
    "tax": "taxes",
    "total": "total",
}


@dataclass(slots=True)
class Row:
    """One line of the table of equality."""

    what: str
    expected: str
    found: str
    differences: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether all of it is as the shop says."""
        return not self.differences and self.expected == self.found


def cents(printed: Mapping[str, str] | None) -> int | None:
    """`{"amount": "12.50", …}` as 1250."""
    return None if printed is None else int(Fraction(printed["amount"]) * 100)


async def compare_kpis(drive: Drive, as_of: datetime, *, when: str) -> Row:
    """Every KPI of every window, for each store and for both."""
    compared = equal = 0
    differences: list[str] = []
    messaged = first_messages(drive)
    scopes: list[StoreName | None] = ["shopify", "woocommerce", None]
    for store in scopes:
        scope = books(drive.postbox.known, store, messaged)
        for window, length in WINDOWS.items():
            target = f"/v1/kpis?window={window}&as_of={as_of:%Y-%m-%dT%H:%M:%SZ}"
            told = await drive.stage.client.get(target + (f"&store={drive.stage.keys[store]}" if store else ""))
            now, before = kpis(scope, as_of, length), kpis(scope, as_of - length, length)
            names = sorted(set(now) | set(told["kpis"]))
            wrong = [found for name in names for found in _kpi(name, told["kpis"].get(name), now, before)]
            compared += len(names)
            equal += len(names) - len({each.split(" ", 1)[0] for each in wrong})
            differences += [f"{store or 'both'} {window} {each}" for each in wrong]
    return Row(f"KPIs {when}", f"{compared:,}", f"{equal:,}", differences)


def first_messages(drive: Drive) -> dict[tuple[StoreName, str], datetime]:
    """Checkout -> when its first recovery message should have gone out."""
    messaged: dict[tuple[StoreName, str], datetime] = {}
    for mail in drive.expected:
        if mail.flow == CART:
            messaged.setdefault((mail.store, mail.cause), mail.at)
    return messaged


def _kpi(name: str, told: Any, now: Figures, before: Figures) -> Iterable[str]:
    if told is None or name not in now:
        yield f"{name} is {'missing' if told is None else 'unknown to the shop'}"
        return
    expected = now[name]
    top = told["numerator"]
    numerator = cents(top) if isinstance(top, dict) else top
    exact = None if not told["denominator"] else Fraction(numerator or 0, told["denominator"])
    scale = 100 if isinstance(top, dict) else 1
    if exact != expected:
        yield f"{name} is {_shown(exact, scale)} and should be {_shown(expected, scale)}"
    elif not _same(told["value"], expected):
        yield f"{name} prints {told['value']} and should print {_shown(expected, scale)}"
    if not _same(told["previous"], before[name]):
        yield f"{name} prints {told['previous']} for the window before and should print {_shown(before[name], scale)}"


def _same(printed: Any, exact: Fraction | None) -> bool:
    if printed is None or exact is None:
        return printed is None and exact is None
    if isinstance(printed, dict):
        return cents(printed) == round(exact)
    return isclose(printed, float(exact), rel_tol=1e-12, abs_tol=1e-12)


def _shown(exact: Fraction | None, scale: int) -> str:
    return "null" if exact is None else f"{float(exact / scale):.8g}"


async def compare_verify(stage: Stage) -> Row:
    """The platform's own recount."""
    told = await stage.client.get("/v1/kpis/verify")
    return Row(
        "recounted by SQL", "0 differ", f"{len(told['differences'])} differ", [str(d) for d in told["differences"]]
    )


async def compare_dead_letters(stage: Stage) -> Row:
    """Garbage is caught by ingest, as its deliveries show; what it lets through the others can all process."""
    fallen = [
        f"{service}: {each['event_type']}, {each['reason']}"
        for service in SERVICES[1:]
        for each in await stage.client.every(f"/v1/dead-letters/{service}?state=dead")
    ]
    return Row(f"dead letters of {', '.join(SERVICES[1:])}", "0", str(len(fallen)), fallen)


async def compare_deliveries(drive: Drive) -> list[Row]:
    """What became of every request."""
    rows = []
    for name, key in drive.stage.keys.items():
        told = await drive.stage.client.get(f"/v1/deliveries/counts?store={key}")
        sent = Counter(each.outcome for each in drive.deliveries if each.store == name)
        found = {word: told[word] for word in ("observed", "parked", "ignored", "dead", "pending")}
        found |= {"duplicate": told["duplicates"], "refused": sum(told["refused"].values())}
        differences = [
            f"{name}: {count} {word} and should be {sent[word]}"  # type: ignore[index]
            for word, count in found.items()
            if count != sent[word]  # type: ignore[index]
        ]
        expected = sent.total() - sent["pinged"]
        rows.append(Row(f"deliveries of {name}, by outcome", f"{expected:,}", f"{sum(found.values()):,}", differences))
    strange = [
        f"{outcome}: answered {status} {times} times"
        for (outcome, status), times in drive.stage.answers.items()
        if status not in ({401} if outcome == "refused" else {200, 202})
    ]
    answered = sum(drive.stage.answers.values())
    rows.append(Row("answers to all requests", f"{len(drive.deliveries):,}", f"{answered:,}", strange))
    return rows


async def compare_people(drive: Drive) -> Row:
    """Whose accounts are one person's."""
    names = {key: name for name, key in drive.stage.keys.items()}
    found = set()
    for profile in await drive.stage.client.every("/v1/profiles"):
        accounts = (each["account"].split(":", 2) for each in profile["accounts"])
        found.add(frozenset(f"{kind}:{names[store]}:{value}" for kind, store, value in accounts))
    expected = set(drive.postbox.known.people())
    differences = [f"not one person: {sorted(group)}" for group in found - expected]
    differences += [f"should be one person: {sorted(group)}" for group in expected - found]
    return Row("profiles (guests, too)", f"{len(expected):,}", f"{len(found & expected):,}", differences)


async def compare_orders(drive: Drive) -> Row:
    """Every order: whose it is, whether it counts, and all its amounts."""
    expected = {(sale.store, sale.id): sale for sale in sales(drive.postbox.known)}
    equal = 0
    differences: list[str] = []
    for name, key in drive.stage.keys.items():
        for told in await drive.stage.client.every(f"/v1/orders?store={key}"):
            sale = expected.pop((name, told["source_id"]), None)
            wrong = ["is unknown to the shop"] if sale is None else list(_order(told, sale))
            equal += not wrong
            differences += [f"order {name} {told['source_id']} {each}" for each in wrong]
    differences += [f"order {store} {source_id} is missing" for store, source_id in expected]
    return Row("orders", f"{len(sales(drive.postbox.known)):,}", f"{equal:,}", differences)


def _order(told: Any, sale: Sale) -> Iterable[str]:
    order = sale.order
    customer = order.contact.customer_id
    plain = {
        "status": order.status,
        "number": order.number,
        "counted": sale.counted,
        "deleted": sale.deleted,
        "currency": "EUR",
        "email": order.contact.email,
        "customer_source_id": None if customer is None else str(customer),
    }
    for name, should in plain.items():
        if told[name] != should:
            yield f"has {name} {told[name]!r} and should have {should!r}"
    if datetime.fromisoformat(told["placed_at"]) != sale.placed_at:
        yield f"was placed at {told['placed_at']} and should be at {sale.placed_at}"
    for name, attribute in AMOUNTS.items():
        if cents(told[name]) != getattr(sale, attribute):
            yield f"has {name} {cents(told[name])} and should have {getattr(sale, attribute)}"
    if len(told["refunds"]) != len(sale.refunds) or len(told["lines"]) != len(order.items):
        yield f"has {len(told['refunds'])} refunds and {len(told['lines'])} lines"


async def compare_mails(drive: Drive) -> list[Row]:
    """Who got which mail and when, by what the SMTP server took; and who must not have."""
    told = {each["id"]: each for each in await drive.stage.client.every("/v1/messages?state=sent")}
    found: Counter[tuple[datetime, str, int, str, str]] = Counter()
    for mail in drive.captured:
        message = told.get(mail.message, {})
        cause = message.get("checkout_token") or ""
        found[mail.letter.at, mail.flow, mail.step, mail.letter.recipient, cause] += 1
    expected = Counter(
        (mail.at, mail.flow, mail.step, mail.recipient, mail.cause if mail.flow == CART else "")
        for mail in drive.expected
    )
    rows = []
    for flow, step in sorted({(key[1], key[2]) for key in (found + expected)}):
        here = {key: n for key, n in found.items() if key[1:3] == (flow, step)}
        there = {key: n for key, n in expected.items() if key[1:3] == (flow, step)}
        more, less = Counter(here) - Counter(there), Counter(there) - Counter(here)
        differences = [f"{flow} {step} to {key[3]} at {key[0]:%Y-%m-%d %H:%M}: should not be" for key in more]
        differences += [f"{flow} {step} to {key[3]} at {key[0]:%Y-%m-%d %H:%M}: missing" for key in less]
        right = sum(here.values()) - more.total()
        rows.append(Row(f"mails {flow} {step}", f"{sum(there.values()):,}", f"{right:,}", differences))
    rows.append(Row("mails in the send ledger", f"{len(drive.captured):,}", f"{len(told):,}"))
    held_back = await drive.stage.client.every("/v1/messages?state=skipped")
    rows.append(Row("mails held back by the gate", f"{drive.postbox.skipped:,}", f"{len(held_back):,}"))
    rows += _rules(drive, told)
    return rows


def _rules(drive: Drive, told: Mapping[str, Any]) -> list[Row]:
    rows = []
    for rule in RULES:
        broken = [each for each in drive.broken if each.startswith(rule)]
        rows.append(Row(f"mails to people who {rule}", "0", str(len(broken)), broken))
    ids = Counter(mail.message for mail in drive.captured)
    twice = [message for message, times in ids.items() if times > 1]
    intents = Counter((m["flow"], m["step"], m["run_key"], m["profile_id"]) for m in told.values())
    twice += [str(intent) for intent, times in intents.items() if times > 1]
    rows.append(Row("mails sent twice", "0", str(len(twice)), twice))
    pressed = len(drive.unsubscribed)
    gone = sum(1 for status in drive.unsubscribed if status == 200)  # noqa: PLR2004
    rows.append(Row("unsubscribed by the button", str(pressed), str(gone)))
    return rows
