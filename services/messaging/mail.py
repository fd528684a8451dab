"""One mail: what is filled into its text, and the headers that let its reader leave at once (RFC 8058)."""

import re
from datetime import datetime, timedelta
from decimal import Decimal
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Any
from urllib.parse import urlsplit

import msgspec
from babel.numbers import format_currency
from msgspec import Struct

from libs.common.contracts.commerce import Line
from libs.common.money import amount
from services.messaging.flows import Flow
from services.messaging.message import Message
from services.messaging.person import Person, usable_address
from services.messaging.rendering import Rendered, TemplateError, clean, render
from services.messaging.rules import Basket, Situation

_READ_WITHIN = timedelta(hours=12)
"""For so long a link in a mail must still lead somewhere."""
SHOWN = 8
"""Lines of a cart that a mail shows."""
REQUIRED = ("store", "url", "postal_address", "unsubscribe_url")
REQUIRED_OF_BASKETS = (*REQUIRED, "lines", "total")

_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::\d{1,5})?(?:/[\w.~-]+)*", re.ASCII)
_BREAKING = re.compile(r"[\x00-\x1f\x7f]")
_SPECIAL = re.compile(r'[()<>\[\]:;@\\,"]')
"""What RFC 5322 reads as more than a letter in a name."""
_LINES = msgspec.json.Decoder(list[Line])


class _WholeLinks(EmailPolicy):
    """Folds as ever, but for the header that holds a URL: nothing of it may be encoded or wrapped."""

    def fold_binary(self, name: str, value: Any) -> bytes:
        """The header as it goes out."""
        if name == "List-Unsubscribe":
            return f"{name}: {value}\r\n".encode("ascii")
        return super().fold_binary(name, value)


_POLICY = _WholeLinks(linesep="\r\n")


class Identity(Struct, frozen=True, kw_only=True):
    """In whose name this installation writes."""

    address: str
    """The `From` address of stores that may not use their own, and where every bounce goes."""
    signed_domains: frozenset[tuple[str, str]] = frozenset()
    """Tenant and domain, whose mail the relay signs: nobody can write in another's name by registering a store."""
    public_url: str
    """Where unsubscribe links lead."""
    postal_address: str | None = None
    """Of the merchant of stores that have none; without either the store's name and domain stand there."""
    unsubscribe_mailto: str | None = None


class Shop(Struct, frozen=True, kw_only=True):
    """The store that a mail speaks for."""

    store: str
    name: str
    domain: str
    timezone: str
    consent_policy: str
    email: str | None = None
    """Where its customers write to."""
    postal_address: str | None = None
    paused_at: datetime | None = None
    """When it was last paused."""
    resumed_at: datetime | None = None
    """When that pause ended; None while it lasts."""
    deleted_at: datetime | None = None

    def paused(self, moment: datetime) -> bool:
        """Whether the moment lies in the last pause."""
        begun = self.paused_at is not None and self.paused_at <= moment
        return begun and (self.resumed_at is None or moment < self.resumed_at)


class Letter(Struct, frozen=True, kw_only=True):
    """A mail ready to go."""

    sender: str
    recipient: str
    content: bytes


def letter(
    message: Message,
    flow: Flow,
    seen: Situation,
    person: Person,
    shop: Shop,
    identity: Identity,
    *,
    token: str,
    now: datetime,
) -> Letter:
    """Renders and addresses a message. Raises TemplateError."""
    link = f"{identity.public_url.rstrip('/')}/u/{token}"
    rendered = render(
        flow.template(message.step, person.profile),
        values(message, flow, seen, person, shop, identity, link=link, now=now),
        REQUIRED if seen.basket is None else REQUIRED_OF_BASKETS,
    )
    content = compose(message, rendered, shop, identity, link=link, now=now).as_bytes(policy=_POLICY)
    return Letter(sender=identity.address, recipient=message.recipient, content=content)


def values(
    message: Message,
    flow: Flow,
    seen: Situation,
    person: Person,
    shop: Shop,
    identity: Identity,
    *,
    link: str,
    now: datetime,
) -> dict[str, Any]:
    """What a text may speak of; every value is one clean line."""
    name = clean(shop.name, 80)
    first_name = person.first_name(message.account)
    return {
        "store": name,
        "first_name": clean(first_name, 40) if first_name else None,
        "postal_address": clean(shop.postal_address or identity.postal_address or f"{name}, {shop.domain}"),
        "unsubscribe_url": link,
        "discount_code": flow.steps[message.step - 1].discount_code,
        **(_home(shop) if seen.basket is None else _basket(seen.basket, shop, now)),
    }


def compose(
    message: Message, rendered: Rendered, shop: Shop, identity: Identity, *, link: str, now: datetime
) -> EmailMessage:
    """Text and HTML, with the headers that mailbox providers ask of senders."""
    mail = EmailMessage(policy=_POLICY)
    domain = identity.address.rpartition("@")[2]
    own = shop.email if shop.email and usable_address(shop.email) else None
    in_own_name = own is not None and (message.tenant, own.rpartition("@")[2].lower()) in identity.signed_domains
    name = " ".join(_SPECIAL.sub(" ", clean(shop.name, 80)).split())
    mail["From"] = Address(name, addr_spec=own if in_own_name and own else identity.address)
    if own and not in_own_name:
        mail["Reply-To"] = Address(name, addr_spec=own)
    mail["To"] = Address(addr_spec=message.recipient)
    mail["Subject"] = rendered.subject
    mail["Date"] = now
    # From the ledger's id: a repeat, should there ever be one, is seen to be the same mail.
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    mailto = f", <mailto:{identity.unsubscribe_mailto}?subject={message.id}>" if identity.unsubscribe_mailto else ""
    mail["List-Unsubscribe"] = f"<{link}>{mailto}"
    mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail["Feedback-ID"] = f"{message.step}:{message.flow}:{message.store}:regulars"
    _check(mail)
    mail.set_content(rendered.text, cte="quoted-printable")
    mail.add_alternative(rendered.html, subtype="html", cte="quoted-printable")
    return mail


def _check(mail: EmailMessage) -> None:
    """TemplateError for a header that would end within itself and begin others, wherever that came from."""
    for name, value in mail.items():
        if _BREAKING.search(str(value)) or "=?" in str(value):
            raise TemplateError(f"{name} holds what ends a header")


def price(minor: int, currency: str) -> str:
    """As an English text prints it: €12.50."""
    return format_currency(Decimal(amount(minor, currency)), currency, locale="en")


def web_address(url: str | None) -> str | None:
    """The URL, if a browser can open it and nothing is hidden in it."""
    if url is None or len(url) > 2000 or re.search(r"[\s\x00-\x1f\x7f<>\"\\]", url):  # noqa: PLR2004 - browsers' limit
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc else None


def _home(shop: Shop) -> dict[str, Any]:
    nothing = dict.fromkeys(("rest", "rest_name", "total"))
    return {"url": _shop_address(shop, ""), "kept": False, "lines": [], "more_lines_not_shown": 0, **nothing}


def _basket(basket: Basket, shop: Shop, now: datetime) -> dict[str, Any]:
    lines = [
        {
            "title": clean(line.title, 120),
            "quantity": line.quantity,
            "price": price(line.price, basket.currency),
            "total": price(line.total, basket.currency),
        }
        for line in _LINES.decode(basket.lines)
        if line.quantity > 0
    ]
    rest = basket.total - sum(line.total for line in _LINES.decode(basket.lines) if line.quantity > 0)
    # Mail is read hours later.
    lasting = basket.recovery_ends_at is None or now < basket.recovery_ends_at - _READ_WITHIN
    recovery_url = web_address(basket.recovery_url) if lasting else None
    return {
        "url": recovery_url or _shop_address(shop, "cart"),
        # Without such a link a cart is there in the browser alone that it was put together in: nothing is promised.
        "kept": recovery_url is not None,
        "lines": lines[:SHOWN],
        "first_line": lines[0]["title"] if lines else None,
        "more_lines": len(lines) - 1,
        "more_lines_not_shown": max(0, len(lines) - SHOWN),
        # What the shop adds and takes off, or the sum would look wrong.
        "rest": price(rest, basket.currency) if rest and lines else None,
        "rest_name": "Shipping and taxes" if rest > 0 else "Discounts",
        "total": price(basket.total, basket.currency),
    }


def _shop_address(shop: Shop, path: str) -> str | None:
    return f"https://{shop.domain}/{path}" if _DOMAIN.fullmatch(shop.domain) else None
