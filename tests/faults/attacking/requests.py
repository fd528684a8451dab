"""Requests that are none, or that two readers would read in two ways."""

from collections.abc import Iterable

from tests.faults.attacking.ground import Attack, Ground, Seen
from tests.faults.attacking.wire import HUNG_UP, Wire, answer, request

REFUSED = f"400,{HUNG_UP}"
"""What is no HTTP is told so, or not worth an answer."""
Case = tuple[str, bytes, str]
"""What it is, its bytes, and what may be answered."""


async def _all(ground: Ground, sent: str, cases: Iterable[Case]) -> Seen:
    seen = Seen(sent)
    for what, data, right in cases:
        seen.expect(await answer(ground.port, data, 15), right, what)
    return seen


async def heads(ground: Ground) -> Seen:
    """Doubled, huge and many headers; lengths that contradict one another."""
    body = ground.order()
    target = f"/webhooks/shopify/{ground.key}".encode()
    good, bad = ground.signed(body), (b"X-Shopify-Hmac-Sha256", b"A" * 44)
    length, chunked = b"Content-Length", b"Transfer-Encoding"

    def unlengthened(*headers: tuple[bytes, bytes], then: bytes = body) -> bytes:
        return request(target, headers=[*good, *headers], length=False) + then

    said = b"%d" % len(body)
    chunk = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    cases: list[Case] = [
        ("two signatures, the good one first", request(target, headers=[*good, bad], body=body), "200"),
        ("two signatures, the bad one first", request(target, headers=[bad, *ground.signed(body)], body=body), "401"),
        ("two topics", ground.webhook(body, headers=[(b"X-Shopify-Topic", b"orders/paid")]), "200"),
        ("two hosts", ground.webhook(body, headers=[(b"Host", b"evil.test")]), "200,400"),
        ("a header of 60 kB", ground.webhook(body, headers=[(b"X-Filler", b"x" * 60_000)]), "200,431"),
        ("a header of 1 MB", ground.webhook(body, headers=[(b"X-Filler", b"x" * 1_000_000)]), f"431,{HUNG_UP}"),
        ("a header's name of 1 MB", ground.webhook(body, headers=[(b"X" * 1_000_000, b"x")]), f"431,{HUNG_UP}"),
        (
            "20,000 headers",
            ground.webhook(body, headers=[(b"X-%d" % n, b"x") for n in range(20_000)]),
            f"431,{HUNG_UP}",
        ),
        ("1,000 headers", ground.webhook(body, headers=[(b"X-%d" % n, b"x") for n in range(1000)]), "200"),
        ("a target of 1 MB", request(b"/" + b"a" * 1_000_000, body=b"{}"), f"431,414,{HUNG_UP}"),
        ("two lengths, the same", unlengthened((length, said), (length, said)), REFUSED),
        ("two lengths", unlengthened((length, said), (length, b"5")), REFUSED),
        ("a list of lengths", unlengthened((length, said + b", 5")), REFUSED),
        ("length and chunks", unlengthened((length, said), (chunked, b"chunked"), then=chunk), REFUSED),
        ("chunks and length", unlengthened((chunked, b"chunked"), (length, said), then=chunk), REFUSED),
        ("chunks twice", unlengthened((chunked, b"chunked"), (chunked, b"chunked"), then=chunk), f"200,{REFUSED}"),
        ("chunks, then identity", unlengthened((chunked, b"chunked, identity"), then=chunk), f"501,{REFUSED}"),
        ("an unknown coding", unlengthened((chunked, b"xchunked"), then=chunk), f"501,{REFUSED}"),
        ("chunks behind a tab", unlengthened((chunked, b"\tchunked"), then=chunk), f"200,{REFUSED}"),
        ("no coding but a blank before the colon", unlengthened((chunked + b" ", b"chunked"), then=chunk), REFUSED),
        ("a length below zero", unlengthened((length, b"-5")), REFUSED),
        ("a length with a plus", unlengthened((length, b"+5")), REFUSED),
        ("a length with a line", unlengthened((length, b"1_0")), REFUSED),
        ("a length in hexadecimal", unlengthened((length, b"0x10")), REFUSED),
        ("a length beyond 2^64", unlengthened((length, b"99999999999999999999999")), REFUSED),
        ("a chunk of a wrong size", unlengthened((chunked, b"chunked"), then=b"zz\r\n{}\r\n0\r\n\r\n"), REFUSED),
        ("a chunk beyond 2^64", unlengthened((chunked, b"chunked"), then=b"f" * 20 + b"\r\n{}\r\n"), REFUSED),
        ("a chunk below zero", unlengthened((chunked, b"chunked"), then=b"-1\r\n{}\r\n0\r\n\r\n"), REFUSED),
        ("a folded header", unlengthened((length, said), (b"X-A", b"b\r\n c")), f"200,{REFUSED}"),
        ("a bare line feed", unlengthened((length, said), (b"X-A", b"b\nX-Shopify-Test: true")), f"200,{REFUSED}"),
        ("a carriage return in a value", unlengthened((length, said), (b"X-A", b"b\rc")), f"200,{REFUSED}"),
        ("a header without name", unlengthened((length, said), (b"", b"x")), REFUSED),
    ]
    return await _all(ground, f"{len(cases)} heads of webhooks", cases)


async def odd_bytes(ground: Ground) -> Seen:
    """What is not UTF-8, NUL, other protocols."""
    body = ground.order()
    target = f"/webhooks/shopify/{ground.key}".encode()
    api = (b"Authorization", b"Bearer " + ground.api_key)

    def get(path: bytes) -> bytes:
        return request(path, method=b"GET", headers=[api])

    cases: list[Case] = [
        ("a header that is not UTF-8", ground.webhook(body, headers=[(b"X-A", b"\xff\xfe\xc0\x80")]), "200"),
        ("a topic that is not UTF-8", ground.webhook(body, headers=[(b"Shopify-Topic", b"\xff")]), "200"),
        ("a header's name that is not ASCII", ground.webhook(body, headers=[(b"X-\xff", b"x")]), REFUSED),
        ("NUL in a header", ground.webhook(body, headers=[(b"X-A", b"a\x00b")]), REFUSED),
        ("NUL in a header's name", ground.webhook(body, headers=[(b"X-\x00", b"x")]), REFUSED),
        ("a path that is not UTF-8", request(target + b"\xff\xfe", body=body), f"401,{REFUSED}"),
        ("the same, escaped", request(target + b"%ff%fe", body=body), "401"),
        ("half a surrogate pair, escaped", request(target + b"%ed%a0%80", body=body), "401"),
        ("an escape that is none", request(target + b"%zz%", body=body), f"401,{REFUSED}"),
        ("NUL in a path", request(target + b"\x00", body=body), REFUSED),
        ("NUL in a path, escaped", request(target + b"%00", body=body), "401"),
        ("NUL for a store", request(b"/webhooks/shopify/%00", body=body), "401"),
        ("NUL in a query, escaped", get(b"/v1/deliveries?store=%00"), "422"),
        ("NUL in a name, escaped", get(b"/v1/deliveries?%00=x"), "422"),
        ("NUL in an API's path", get(b"/v1/stores/%00"), "404,422"),
        ("an API's path that is not UTF-8", get(b"/v1/profiles/%ff%fe"), "404,422"),
        ("half a surrogate pair in an API's path", get(b"/v1/profiles/%ed%a0%80"), "404,422"),
        ("half a surrogate pair in a query", get(b"/v1/deliveries?store=%ed%a0%80"), "200,404,422"),
        ("an API's path of 30 kB", get(b"/v1/profiles/" + b"a" * 30_000), "404,422"),
        (
            "a key that is not UTF-8",
            request(b"/v1/stores", method=b"GET", headers=[(b"Authorization", b"Bearer \xff")]),
            "401",
        ),
        (
            "a key of 30 kB",
            request(b"/v1/stores", method=b"GET", headers=[(b"Authorization", b"Bearer " + b"r" * 30_000)]),
            "401",
        ),
        ("JSON that is not UTF-8", ground.api(b"/v1/events", body=b'{"id": "\xff"}'), "400,422"),
        ("NUL in JSON", ground.api(b"/v1/events", body=b'{"id": "\\u0000", "store": "\\u0000"}'), "400,422"),
        ("half a surrogate pair in JSON", ground.api(b"/v1/events", body=b'{"id": "\\ud800"}'), "400,422"),
        ("no body where there should be one", ground.api(b"/v1/events"), "400,422"),
        (
            "an unknown charset",
            ground.api(b"/v1/events", headers=[(b"Content-Type", b"application/json; charset=x")], body=b"{}"),
            "400,415,422",
        ),
        (
            "a key for once that is not ASCII",
            ground.api(b"/v1/events", headers=[(b"Idempotency-Key", b"\xff")], body=b"{}"),
            "422",
        ),
        (
            "an id of the request that is not ASCII",
            get(b"/v1/stores").replace(b"Host:", b"X-Request-Id: \xff\xff\xff\xff\xff\xff\xff\xff\r\nHost:"),
            "200",
        ),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), REFUSED),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", f"505,{REFUSED}"),
        ("HTTP/0.9", b"GET /\r\n\r\n", f"404,{REFUSED}"),
        ("HTTP/9.9", b"GET /livez HTTP/9.9\r\n\r\n", f"505,{REFUSED}"),
        ("a method that is none", b"FROB / HTTP/1.1\r\nHost: x\r\n\r\n", REFUSED),
        ("a tunnel", b"CONNECT evil.test:443 HTTP/1.1\r\nHost: x\r\n\r\n", f"404,405,{REFUSED}"),
        ("an asterisk", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", f"404,405,{REFUSED}"),
        ("TRACE", b"TRACE /v1/stores HTTP/1.1\r\nHost: x\r\n\r\n", f"404,405,{REFUSED}"),
    ]
    return await _all(ground, f"{len(cases)} odd requests", cases)


async def paths(ground: Ground) -> Seen:
    """Ways around the routes: none leads from a webhook to the API, and none makes a store."""
    body = (
        b'{"platform":"shopify","domain":"evil.myshopify.com","secrets":["12345678"],"currency":"EUR","timezone":"UTC"}'
    )
    key = ground.key.encode()
    webhooks = [
        b"/webhooks/shopify/../../v1/stores",
        b"/webhooks/shopify/%2e%2e/%2e%2e/v1/stores",
        b"/webhooks/shopify/..%2f..%2fv1%2fstores",
        b"/webhooks/shopify//" + key,
        b"/webhooks/shopify/" + key + b"/",
        b"/webhooks/shopify/" + key + b"%2f",
        b"/webhooks/shopify/" + key + b"/../" + key,
        b"/webhooks/shopify/" + key + b";x=1",
        b"/webhooks/shopify/" + key + b"%20",
        b"/webhooks/shopify/",
        b"/webhooks/woocommerce/" + key,
    ]
    elsewhere = [
        b"/webhooks/magento/" + key,
        b"/webhooks/%2e%2e/v1/stores",
        b"/webhooks/../v1/stores",
        b"/webhooks//shopify/" + key,
        b"//webhooks/shopify/" + key,
        b"/webhooks/SHOPIFY/" + key,
        b"/webhooks\\shopify\\" + key,
        b"//v1/stores",
        b"/v1//stores",
        b"/v1/stores/",
        b"/v1/./stores",
        b"/V1/stores",
        b"/v1/stores%2f",
        b"/v1/stores/../stores",
        b"/v1/stores/..%2fstores",
        b"/v1/stores;x=1",
        b"/u/../v1/stores",
    ]
    cases: list[Case] = [
        *((each.decode(), ground.api(each, headers=ground.signed(body), body=body), "401") for each in webhooks),
        *(
            (each.decode(), ground.api(each, headers=ground.signed(body), body=body), f"404,405,{REFUSED}")
            for each in elsewhere
        ),
    ]
    stores = len((await ground.asked("/v1/stores"))["data"])
    seen = await _all(ground, f"{len(cases)} paths, signed and with a key", cases)
    if (now := len((await ground.asked("/v1/stores"))["data"])) != stores:
        seen.wrong.append(f"{now - stores} stores were registered by way of them")
    return seen


async def smuggled(ground: Ground) -> Seen:
    """A second request hidden in the body of a first is never answered."""
    hidden = ground.api(b"/v1/stores", method=b"GET")
    target = f"/webhooks/shopify/{ground.key}".encode()
    carriers = [
        request(target, body=hidden),
        request(target, headers=[(b"Transfer-Encoding", b"chunked")], length=False)
        + b"%x\r\n" % len(hidden) + hidden + b"\r\n0\r\n\r\n",
        request(target, headers=[(b"Content-Length", b"0"), (b"Transfer-Encoding", b"chunked")], length=False)
        + b"0\r\n\r\n" + hidden,
        request(target, headers=[(b"Upgrade", b"h2c"), (b"Connection", b"Upgrade")], body=hidden),
        request(b"/v1/events", headers=[(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")], body=hidden),
    ]  # fmt: skip
    seen = Seen(f"{len(carriers)} requests with another in the body")
    for n, data in enumerate(carriers):
        wire = await Wire.open(ground.port)
        await wire.send(data)
        seen.expect(await wire.answer(15), f"401,422,{REFUSED}", f"carrier {n}")
        second = await wire.answer(0.3)
        if second.status == "200":
            seen.wrong.append(f"carrier {n}: what it held was answered {second.body[:100]!r}")
        wire.close()
    return seen


ATTACKS = (
    Attack("doubled, huge, conflicting headers", heads),
    Attack("not UTF-8, NUL, other protocols", odd_bytes),
    Attack("path tricks", paths),
    Attack("smuggled requests", smuggled),
)
