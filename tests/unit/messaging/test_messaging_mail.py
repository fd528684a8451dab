"""Mails: what is in them, and what hostile names and titles cannot do to them."""

import email
import email.policy
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any, get_args

import msgspec
import pytest
from pydantic import ValidationError

from libs.common.contracts.commerce import Line
from services.messaging.flows import BUILT_IN, CART_ABANDONMENT, RE_ENGAGEMENT, Flow
from services.messaging.mail import Identity, Shop, letter, price, web_address
from services.messaging.message import Answer, Delivery, Message
from services.messaging.person import AccountFacts, Person
from services.messaging.rendering import TemplateError, clean, render
from services.messaging.rules import Basket, Situation
from services.messaging.sender import answered, backoff
from services.messaging.settings import MessagingSettings
from services.messaging.work import identity as configured

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SHOP = Shop(store="s", name="Mug & Co", domain="shop.example.com", timezone="UTC", consent_policy="explicit")
IDENTITY = Identity(address="hello@mail.example.com", public_url="https://r.example.com/")
HOSTILE = 'x"><script>alert(1)</script>\r\nBcc: eve@example.com\u202e{{ store }}{% raw %}'
LINES = [Line(title="Blue mug", quantity=2, price=1250, total=2500)]


def written(flow: Flow = CART_ABANDONMENT, step: int = 1, **different: Any) -> EmailMessage:
    lines = different.pop("lines", LINES)
    basket = Basket(
        kind="checkout",
        store="s",
        token="t",
        account="a",
        started_at=NOW,
        changed_at=NOW,
        items=len(lines),
        currency=different.pop("currency", "EUR"),
        total=sum(line.total for line in lines),
        lines=msgspec.json.encode(lines).decode(),
        recovery_url=different.pop("recovery_url", "https://shop.example.com/r?a=1&b=2"),
        recovery_ends_at=different.pop("recovery_ends_at", None),
    )
    message = Message(
        tenant="d",
        flow=flow.key,
        version=1,
        step=step,
        run_key="s:t",
        store="s",
        subject="t",
        account="a",
        profile="p",
        channel="email",
        transactional=False,
        recipient="ada@example.com",
        checkout_token="t",
        due_at=NOW,
    )
    seen = Situation(
        run_key="s:t",
        subject="t",
        store="s",
        account="a",
        anchor=NOW,
        known=True,
        live=True,
        exits=frozenset(),
        basket=basket if flow.trigger == "basket_abandoned" else None,
    )
    name = different.pop("first_name", "Ada")
    person = Person(
        profile="p", accounts=(AccountFacts(account="a", store="s", email="ada@example.com", first_name=name),)
    )
    shop = msgspec.structs.replace(SHOP, **different.pop("shop", {}))
    identity = msgspec.structs.replace(IDENTITY, **different)
    mail = letter(message, flow, seen, person, shop, identity, token="x" * 400, now=NOW)
    assert all(len(line) <= 998 for line in mail.content.split(b"\r\n"))
    return email.message_from_bytes(mail.content, policy=email.policy.default)


def part(mail: EmailMessage, kind: str) -> str:
    body = mail.get_body((kind,))
    assert body is not None
    return str(body.get_content())


class Tags(HTMLParser):
    """Collects the tags and the addresses that a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        self.links += [value or "" for name, value in attrs if name == "href"]


@pytest.mark.parametrize(("flow", "step"), [(flow, n + 1) for flow in BUILT_IN for n in range(len(flow.steps))])
def test_every_text_renders_whole(flow: Flow, step: int) -> None:
    mail = written(flow, step, first_name=None)
    text, html = part(mail, "plain"), part(mail, "html")
    assert mail.get_content_type() == "multipart/alternative"
    assert "Hello there," in text
    assert "Hello there," in html
    assert "Mug &amp; Co" in html
    assert "Mug & Co, shop.example.com" in text
    assert "because you" in text
    assert f"https://r.example.com/u/{'x' * 400}" in Tags(html).links
    assert "prefers-color-scheme: dark" in html
    assert "{{" not in text + html
    assert "\n\n\n" not in text
    assert len(html.encode()) < 102_000  # beyond this one provider cuts a mail off


def test_the_button_leads_back_to_the_cart() -> None:
    mail = written()
    assert "https://shop.example.com/r?a=1&b=2" in Tags(part(mail, "html")).links
    assert "https://shop.example.com/r?a=1&b=2" in part(mail, "plain")
    assert "2 x Blue mug: €25.00" in part(mail, "plain")


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize(
    "without", [{"recovery_url": None}, {"recovery_ends_at": NOW + timedelta(hours=6)}], ids=["no link", "link ends"]
)
def test_without_a_link_that_lasts_nothing_is_promised(step: int, without: dict[str, Any]) -> None:
    mail = written(step=step, **without)
    html, text = part(mail, "html"), part(mail, "plain")
    assert "https://shop.example.com/cart" in Tags(html).links
    assert "/r?a=1" not in html + text
    for promise in ("kept your cart", "still here", "is waiting", "still in your cart", "it is one click away"):
        assert promise not in html + text + mail["Subject"]
    assert "2 x Blue mug" in text


@pytest.mark.parametrize(
    "word", ["=?utf-8?q?A=0D=0ABcc:_eve@example.com?=", "=?utf-8?b?QQ0KQmNjOiBldmVAZXhhbXBsZS5jb20NCg0KSGk=?="]
)
@pytest.mark.parametrize("flow", BUILT_IN, ids=lambda flow: flow.key)
def test_no_name_begins_a_header(flow: Flow, word: str) -> None:
    """Encoded words are plain ASCII until a header decodes them."""
    mail = written(flow, first_name=word, shop={"name": word, "email": "post@shop.example.com", "postal_address": word})
    assert mail["Bcc"] is None
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert [address.addr_spec for address in mail["From"].addresses] == ["hello@mail.example.com"]
    assert "eve@example.com" not in part(mail, "plain").split("Hello")[0]
    assert mail.get_content_type() == "multipart/alternative"


def test_a_link_that_lasts_long_enough_is_followed() -> None:
    mail = written(recovery_ends_at=NOW + timedelta(hours=23))
    assert "https://shop.example.com/r?a=1&b=2" in Tags(part(mail, "html")).links
    assert "kept your cart" in part(mail, "plain")


@pytest.mark.parametrize(
    ("email", "sender", "answers"),
    [
        (None, "hello@mail.example.com", None),
        ("post@shop.example.com", "hello@mail.example.com", "post@shop.example.com"),
        ("post@Own.example.com", "post@Own.example.com", None),
        ("not an address", "hello@mail.example.com", None),
    ],
)
def test_a_store_writes_in_its_own_name_where_the_relay_signs_for_it(
    email: str | None, sender: str, answers: str | None
) -> None:
    mail = written(
        shop={"email": email}, signed_domains=frozenset({("d", "own.example.com"), ("other", "shop.example.com")})
    )
    assert mail["From"].addresses[0].addr_spec == sender
    assert mail["From"].addresses[0].display_name == "Mug & Co"
    assert (mail["Reply-To"].addresses[0].addr_spec if mail["Reply-To"] else None) == answers


def test_whose_mail_is_signed_is_said_for_each_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGULARS_MAIL_DOMAINS", "Own.example.com, acme:acme.example")
    assert configured(MessagingSettings()).signed_domains == {("default", "own.example.com"), ("acme", "acme.example")}


@pytest.mark.parametrize("domains", ["@own.example", "own", "acme:", "own.example;other.example"])
def test_no_list_of_domains(monkeypatch: pytest.MonkeyPatch, domains: str) -> None:
    monkeypatch.setenv("REGULARS_MAIL_DOMAINS", domains)
    with pytest.raises(ValidationError, match="mail_domains"):
        MessagingSettings()


@pytest.mark.parametrize(
    ("own", "shared", "shown"),
    [
        ("Mug Ltd, 1 High Street, Leeds", "Group, 2 Main Street", "Mug Ltd, 1 High Street, Leeds"),
        (None, "Group, 2 Main Street", "Group, 2 Main Street"),
        (None, None, "Mug & Co, shop.example.com"),
    ],
)
def test_the_postal_address_is_the_stores(own: str | None, shared: str | None, shown: str) -> None:
    text = part(written(shop={"postal_address": own}, postal_address=shared), "plain")
    assert text.rstrip().endswith(shown)


def test_headers_for_leaving() -> None:
    mail = written(unsubscribe_mailto="out@mail.example.com")
    link = f"<https://r.example.com/u/{'x' * 400}>"
    assert str(mail["List-Unsubscribe"]).startswith(f"{link}, <mailto:out@mail.example.com?subject=")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_hostile_words_stay_words() -> None:
    mail = written(
        lines=[Line(title=HOSTILE, quantity=1, price=1, total=1)],
        first_name=HOSTILE,
        shop={"name": HOSTILE},
        postal_address=HOSTILE,
    )
    assert mail.keys() == [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
        "Feedback-ID",
        "MIME-Version",
        "Content-Type",
    ]
    assert mail["To"] == "ada@example.com"
    assert mail["From"].addresses[0].addr_spec == "hello@mail.example.com"
    html = part(mail, "html")
    assert "script" not in Tags(html).tags
    assert "&lt;script&gt;" in html
    assert "{{ store }}" in html
    assert "\u202e" not in html


@pytest.mark.parametrize("name", ["Ünï, GmbH: <x>", "漢" * 60, "a" * 500, 'O"Hara\\', "=?utf-8?q?x?=", "Eve <eve@x.y>"])
def test_names_of_shops_in_headers(name: str) -> None:
    mail = written(shop={"name": name})
    (sender,) = mail["From"].addresses
    assert sender.addr_spec == "hello@mail.example.com"
    assert not mail["From"].defects
    assert not mail["Subject"].defects


@pytest.mark.parametrize(
    "url",
    [None, "javascript:alert(1)", "//evil.example", "https://", "https://a b", "https://u:p@e.org", "http://[x", ""],
)
def test_addresses_that_no_button_leads_to(url: str | None) -> None:
    assert web_address(url) is None
    assert "https://shop.example.com/cart" in Tags(part(written(recovery_url=url), "html")).links


def test_what_it_needs_must_be_there() -> None:
    with pytest.raises(TemplateError, match="lines is empty"):
        written(lines=[])
    with pytest.raises(TemplateError, match="url is empty"):
        written(recovery_url=None, shop={"domain": 'x"y'})
    with pytest.raises(TemplateError, match="store"):
        written(shop={"name": " \r\n"})


def test_a_text_that_speaks_of_what_is_not_there() -> None:
    with pytest.raises(TemplateError, match="first_line"):
        render("cart_abandonment_1", {"store": "x", "first_name": None, "lines": []}, ())
    with pytest.raises(TemplateError):
        render("no_such_text", {}, ())


def test_a_discount_only_in_the_third() -> None:
    third = msgspec.structs.replace(CART_ABANDONMENT.steps[2], discount_code="BACK10")
    flow = msgspec.structs.replace(CART_ABANDONMENT, steps=(*CART_ABANDONMENT.steps[:2], third))
    assert "BACK10" in part(written(flow, 3), "plain")
    assert "BACK10" not in part(written(flow, 2), "plain")
    assert "Last reminder" in written(CART_ABANDONMENT, 3)["Subject"]


def test_long_carts_are_cut() -> None:
    lines = [Line(title=f"Mug {n}", quantity=1, price=1, total=1) for n in range(12)]
    text = part(written(lines=lines), "plain")
    assert "Mug 7" in text
    assert "Mug 8" not in text
    assert "and 4 more" in text


@pytest.mark.parametrize(
    ("minor", "currency", "shown"), [(1250, "EUR", "€12.50"), (1250, "JPY", "¥1,250"), (1250, "KWD", "KWD1.250")]
)
def test_prices(minor: int, currency: str, shown: str) -> None:
    assert price(minor, currency) == shown


def test_clean() -> None:
    assert clean("  a\r\n\t b\x00c\u2028 \ufeff\u061c") == "a b c"
    assert clean("a" * 10, 5) == "aaaa…"


def test_lapsed_buyers_are_led_to_the_shop() -> None:
    assert "https://shop.example.com/" in Tags(part(written(RE_ENGAGEMENT), "html")).links


def test_answers() -> None:
    message = msgspec.structs.replace(_message(), attempts=0)
    states = {
        delivery: answered(message, Answer(delivery=delivery, response="…"), NOW).state
        for delivery in get_args(Delivery)
    }
    assert states == {"accepted": "sent", "rejected": "failed", "unanswered": "unknown", "deferred": "planned"}


def test_backoff_grows_and_spreads() -> None:
    waits = [backoff(msgspec.structs.replace(_message(), attempts=n)) for n in range(12)]
    assert timedelta(seconds=15) <= waits[0] <= timedelta(seconds=30)
    assert timedelta(minutes=15) <= waits[-1] <= timedelta(minutes=30)
    assert len({backoff(msgspec.structs.replace(_message(), run_key=str(n))) for n in range(20)}) == 20


def _message() -> Message:
    return Message(
        tenant="d",
        flow="cart_abandonment",
        version=1,
        step=1,
        run_key="s:t",
        store="s",
        subject="t",
        account="a",
        profile="p",
        channel="email",
        transactional=False,
        recipient="ada@example.com",
        checkout_token="t",
        due_at=NOW,
    )
