"""What becomes of a payload on its way: the n-th of a seed is always the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from libs.common.contracts.types import Platform
from services.ingest import (
    shopify,
    shopify_carts,
    shopify_orders,
    shopify_parts,
    shopify_records,
    shopify_refunds,
    woocommerce,
    woocommerce_orders,
    woocommerce_records,
)
from tests.faults.fuzzing.bases import TOPICS, Base

Raw = msgspec.Raw
LONG = 60_000
"""Bytes of the longest piece put in: one of them leaves a body below 100 kB."""
_READERS = (
    *(shopify, shopify_carts, shopify_orders, shopify_parts, shopify_records, shopify_refunds),
    *(woocommerce, woocommerce_orders, woocommerce_records),
)
READ = frozenset(
    name
    for module in _READERS
    for shape in vars(module).values()
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct)
    for name in shape.__struct_fields__
)
"""Names of the fields that the normalisers decode."""

_NUMBERS = (
    "0", "-0", "-0.0", "-1", "1e400", "-1e400", "1e-400", "1.7976931348623157e308", "5e-324", "1E+5", "1e15", "1e16",
    "999999999999999.99", "1000000000000000", "1000000000000001", "-1000000000000000", "4611686018427387904",
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "9007199254740993", "0.1", "1e-30",
    "170.19999999999999", "NaN", "Infinity", "-Infinity", "01", "+1", "1.", ".5", "0x10", "1_000",
)  # fmt: skip
_TEXTS = (
    "", " ", "0", "-1", "null", "true", "NaN", "1e400", "1e-400", "-1e99", "1e15", "999999999999999.99", "12,50", "€12",
    "1 000.00", "٣", "\u00bd", "\u0000", "a\u0000b", "\u2028", "\ufeff", "\ufffe", "\U0010ffff", "\u202eEUR", "EUR",
    "eur", "JPY", "KWD", "XXX", "CLF", "gid://shopify/Order/", "gid://shopify/Order/12", "gid://", "gid://////", "?",
    "?key=1",
    "c1-5f2?key=abc", "1?2?3", "//cdn.example/a.png", "javascript:alert(1)", "&amp;", "&#0;", "&#xD800;", "&#x110000;",
    "&lt", "&;", "subscribed", "unsubscribed", "SUBSCRIBED", "redacted", "voided", "refunded", "wc-completed",
    "checkout-draft", "wc-checkout-draft", "auto-draft", "shipping_refund", "success", "fulfilled", "de", "DEU", "🇩🇪",
    "{{ 7 * 7 }}", "{% raw %}", "' OR 1=1 --", "%s%n", "../../etc/passwd", "ada\r\nBcc: x@example.com",
)  # fmt: skip
_DATES = (
    "2026-02-30T10:00:00Z", "2026-03-01", "20260301T100000Z", "2026-W09-7", "2026-03-01T24:00:00",
    "0000-00-00 00:00:00",
    "0000-00-00", "-0001-11-30T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1900-01-01",
    "1899",
    "2199-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2026-03-29T02:30:00",
    "2026-10-25T02:30:00",
    "2026-03-01T10:00:00.123456789Z", "2026-03-01T10:00:00.123456789123456789+01:00", "2026-03-01T10:00:00+25:00",
    "2026-03-01T10:00:00+01:00:00.5", "2026-03-01 10:00:00 UTC", "2026-03-01T10:00:00z", "٢٠٢٦-03-01", "1772359200",
    "now",
    "2026-03-02T12:04:59Z", "2026-03-02T12:05:01Z", "2199-01-01T00:00:00",
)  # fmt: skip
_TOKENS = (
    '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\\\ud800"', '"\\\\\\ud800"', '"a\\ud83d"',
    '"\\uD83D\\u0041"',
    '"\\u0000"', '"\\u0000\\u0000 \\u0000"', '"\\/\\b\\f\\n\\r\\t"', '"\\x41"', '"\\u12"', "nul", "True", "undefined",
    "'a'",
    "[,]", "{,}", "[1,]", '{"a":1,}', '{"a"}', "/* x */1", '"\t"', "[]", "{}", "[[]]", "[{}]", "[null]", "null", "true",
    "false", '{"id":7,"shop_money":{"amount":"1.00"}}', '{"shop_money":{"amount":"1e15","currency_code":"JPY"}}',
    '{"state":"subscribed","consent_updated_at":"2026-03-02T12:04:00Z"}', '{"state":["subscribed"]}',
)  # fmt: skip
_LONG = (
    "x", "9", "0", "-", " ", "&", "&#9", "&amp;", "\\\\", "\\u0000", "\\ud800", "\\ud83d\\ude00", "1.", "1e", "gid://",
    "/",
    "?", "\\n", '\\"', "é", "😀", "\u0301", "9,", "a@", "2026-", "T", "+", "%", "{{",
)  # fmt: skip
_LONG_HEADS = ("", "&#", "&#x", "&", "gid://shopify/Order/", "1.", "-", "2026-03-01T10:00:00.", "https://", "0.")
_LONG_WHOLE = (
    ("&#", "9"), ("&#x", "f"), ("", "&#9;"), ("1.", "3"), ("", "1."), ("-", "9"), ("0.", "0"), ("1e", "9"),
    ("", "\\\\"),
    ("2026-03-01T10:00:00.", "9"), ("2026-03-01T10:00:00+", "0"), ("gid://", "/"), ("", "?"), ("", ","), ("", " "),
)  # fmt: skip
"""What is dear or refused only when it is long."""
_DEPTHS = (20, 500, 900, 1100, 3000, 25_000)
_INVALID = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xe2\x82", b"\x00", b"\x80", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Payload:
    """One delivery to be read."""

    number: int
    base: str
    platform: Platform
    topic: str
    """Before anything was done to the headers."""
    headers: tuple[tuple[bytes, bytes], ...]
    """As ASGI has them."""
    body: bytes


class Mutator:
    """Makes the n-th payload of a seed."""

    def __init__(self, bases: Sequence[Base], seed: int) -> None:
        self._seed = seed
        self._all = list(bases)
        self._of: dict[tuple[str, str], list[Base]] = {}
        for base in bases:
            self._of.setdefault((base.platform, base.kind), []).append(base)
        self._topics = [(platform, topic) for platform, topics in TOPICS.items() for topic in topics]

    def payload(self, number: int) -> Payload:
        """The same each time."""
        dice = Random((self._seed << 40) + number)
        platform, topic = dice.choice(self._topics)
        kind = topic.replace("/", ".").partition(".")[0]
        own = self._of.get((platform, kind))
        base = dice.choice(own) if own and dice.random() < 0.85 else dice.choice(self._all)
        body = base.body
        if dice.random() < 0.85:
            body = _restructured(body, dice)
        if dice.random() < 0.25:
            body = dice.choice(_BYTES)(body, dice)
        return Payload(number, base.name, platform, topic, _headers(base, platform, topic, dice), body)


# Structure ------------------------------------------------------------------------------------------------------------


def _restructured(body: bytes, dice: Random) -> bytes:
    try:
        tree = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 5))):
        holder, key = _place(tree, dice)
        if holder is None:
            tree = _odd(dice, tree)
        else:
            dice.choice(_CHANGES)(holder, key, dice)
    return msgspec.json.encode(tree)


def _place(tree: Any, dice: Random) -> tuple[Any, Any]:
    """A container and a key in it, at any depth; (None, None) for the whole."""
    holder = key = None
    inside = tree
    while isinstance(inside, dict | list) and inside:
        holder, key = inside, _key(inside, dice)
        inside = inside[key]
        if dice.random() < 0.25:
            break
    if dice.random() < 0.02:
        return None, None
    return holder, key


def _key(inside: dict[str, Any] | list[Any], dice: Random) -> Any:
    if isinstance(inside, list):
        return dice.randrange(len(inside))
    # Most fields are read by nobody: each second time it is one that is.
    read = [name for name in inside if name in READ] if dice.random() < 0.5 else []
    return dice.choice(read or list(inside))


def _odd(dice: Random, former: Any) -> Any:
    """Something else in its place."""
    kind = dice.randrange(12)
    if kind == 0:
        return Raw(dice.choice(_NUMBERS).encode())
    if kind in {1, 2}:
        return dice.choice(_TEXTS)
    if kind == 3:
        return dice.choice(_DATES)
    if kind in {4, 5}:
        return Raw(dice.choice(_TOKENS).encode())
    if kind == 6:
        return Raw(_long(dice))
    if kind == 7:
        return Raw(_deep(dice))
    if kind == 8:
        return Raw(_digits(dice))
    if kind == 9:
        return _retyped(former)
    return [former] if kind == 10 else {dice.choice(("id", "order", "customer", "product", "value", "")): former}


def _long(dice: Random) -> bytes:
    head, piece = dice.choice(_LONG_WHOLE) if dice.random() < 0.5 else (dice.choice(_LONG_HEADS), dice.choice(_LONG))
    encoded = piece.encode()
    return b'"' + head.encode() + encoded * (dice.choice((300, 2000, 6000, LONG)) // len(encoded)) + b'"'


def _deep(dice: Random) -> bytes:
    depth = dice.choice(_DEPTHS)
    if dice.random() < 0.5:
        return b"[" * depth + b"]" * (depth if dice.random() < 0.8 else depth - 1)
    key = dice.choice((b'{"a":', b'{"order":', b'{"customer":', b'{"product":'))
    depth = min(depth, LONG // len(key))
    return key * depth + b"1" + b"}" * depth


def _digits(dice: Random) -> bytes:
    many = dice.choice((17, 20, 40, 41, 400, 4300, 4301, 30_000))
    printed = dice.choice(("", "-")) + dice.choice("123456789") + dice.choice("09") * many
    form = dice.randrange(4)
    if form == 0:
        return printed.encode()
    if form == 1:
        return f'"{printed}"'.encode()
    return (printed + "." + "3" * many if form == 2 else f'"{printed}e{many}"').encode()


def _retyped(former: Any) -> Any:
    match former:
        case bool():
            return str(former).lower()
        case int() | float():
            return str(former)
        case str():
            return Raw(former.encode()) if former.isascii() and former.isdigit() else [*former[:3]]
        case dict():
            return [*former.values()]
        case list():
            return {str(n): each for n, each in enumerate(former)}
        case _:
            return 0


def _replaced(holder: Any, key: Any, dice: Random) -> None:
    holder[key] = _odd(dice, holder[key])


def _removed(holder: Any, key: Any, dice: Random) -> None:
    del holder[key]


def _nulled(holder: Any, key: Any, dice: Random) -> None:
    holder[key] = None


def _swapped(holder: Any, key: Any, dice: Random) -> None:
    other = dice.choice(list(holder)) if isinstance(holder, dict) else dice.randrange(len(holder))
    holder[key], holder[other] = holder[other], holder[key]


def _renamed(holder: Any, key: Any, dice: Random) -> None:
    if isinstance(holder, dict):
        name = dice.choice(
            ("id", "Id", "token", "code", "message", "order", f"{key}\u0000", f"{key} ", "__proto__", "")
        )
        holder[name] = holder.pop(key)


def _said_twice(holder: Any, key: Any, dice: Random) -> None:
    """A key twice in one object: JSON leaves open which counts."""
    inside = holder[key]
    if isinstance(inside, dict) and inside:
        name = dice.choice(list(inside))
        first = msgspec.json.encode({name: _odd(dice, inside[name])})[1:-1]
        try:
            holder[key] = Raw(b"{" + first + b"," + msgspec.json.encode(inside)[1:])
        except msgspec.MsgspecError:
            return


def _multiplied(holder: Any, key: Any, dice: Random) -> None:
    """Hundreds of what there is one of."""
    inside = holder[key]
    encoded = msgspec.json.encode(inside)
    times = min(dice.choice((2, 10, 120, 3000)), max(1, LONG // (len(encoded) + 1)))
    if isinstance(inside, list):
        encoded = encoded[1:-1]
        if not encoded.strip():
            return
    holder[key] = Raw(b"[" + b",".join([encoded] * times) + b"]")


_CHANGES: tuple[Callable[[Any, Any, Random], None], ...] = (
    *[_replaced] * 7, _removed, _removed, _nulled, _nulled, _swapped, _renamed, _said_twice, _multiplied,
)  # fmt: skip


# Bytes ----------------------------------------------------------------------------------------------------------------


def _flipped(body: bytes, dice: Random) -> bytes:
    raw = bytearray(body)
    for _ in range(dice.choice((1, 1, 2, 8)) if raw else 0):
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    return bytes(raw)


def _cut(body: bytes, dice: Random) -> bytes:
    end = dice.randrange(len(body) + 1)
    return body[:end] if dice.random() < 0.8 else body[end:]


def _spoiled(body: bytes, dice: Random) -> bytes:
    place = dice.randrange(len(body) + 1)
    return body[:place] + dice.choice(_INVALID) + body[place + dice.randrange(3) :]


def _doubled(body: bytes, dice: Random) -> bytes:
    start = dice.randrange(len(body) + 1)
    end = min(len(body), start + dice.choice((1, 10, 200)))
    return body[:end] + body[start:end] + body[end:]


def _surrounded(body: bytes, dice: Random) -> bytes:
    before, after = dice.choice(
        (
            (b"\xef\xbb\xbf", b""),
            (b" \n\t", b"\r\n"),
            (b"", b"}"),
            (b"", b"\x00"),
            (b"", b"null"),
            (b"[", b"]"),
            (b'"', b'"'),
        )
    )
    return before + body + after


def _recoded(body: bytes, dice: Random) -> bytes:
    text = body.decode("latin-1")
    return text.encode(dice.choice(("utf-16", "utf-16-be", "utf-32", "utf-8")))


_BYTES: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flipped, _flipped, _flipped, _cut, _spoiled, _spoiled, _doubled, _surrounded, _recoded,
)  # fmt: skip


# Headers --------------------------------------------------------------------------------------------------------------

_VALUES = (
    b"", b" ", b"\xff\xfe", b"\xc3\xa9", b"\x00", b"a\x00b", b"x" * 9000, b"true", b"TRUE ", b"null", b"orders/create",
    b"order.updated", b"ORDERS/CREATE", b"orders//create", b"orders/create\t", b"../orders/create",
    b"orders/create?x=1",
    b"%6frders/create", b"9" * 5000, b"-1", b"teas.example\r\nx: y", b"0001-01-01T00:00:00+14:00", b"99999-01-01",
    b"2026-03-02T12:00:00.123456789Z", b"2199-12-31T23:59:59.999999999Z", b"\xd9\xa3",
)  # fmt: skip


def _headers(base: Base, platform: str, topic: str, dice: Random) -> tuple[tuple[bytes, bytes], ...]:
    """Those of the base under this topic; one in five changes something else about them."""
    sent = [(name.lower().encode(), value.encode("utf-8")) for name, value in base.headers]
    said = b"x-shopify-topic" if platform == "shopify" else b"x-wc-webhook-topic"
    sent = [(name, value) for name, value in sent if name != said] + [(said, topic.encode())]
    if dice.random() < 0.8:
        return tuple(sent)
    for _ in range(dice.choice((1, 1, 2, 4))):
        change = dice.randrange(6)
        place = dice.randrange(len(sent))
        name, value = sent[place]
        if change == 0:
            sent[place] = (name, dice.choice(_VALUES))
        elif change == 1:
            sent.insert(dice.randrange(len(sent)), (name, dice.choice(_VALUES)))
        elif change == 2 and len(sent) > 1:
            del sent[place]
        elif change == 3:
            sent[place] = (name.removeprefix(b"x-"), value)
        elif change == 4:
            extra: Mapping[bytes, bytes] = {
                b"x-shopify-test": b"true",
                b"content-length": b"9" * 30,
                b"traceparent": b"0",
            }
            sent.append(dice.choice(list(extra.items())))
        else:
            sent += [(b"x-filler-%d" % n, b"y") for n in range(dice.choice((3, 80)))]
    return tuple(sent)
