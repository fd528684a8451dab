"""Which addresses a store may have."""

import asyncio
from typing import NoReturn

import httpx
import pytest

from services.ingest.platforms import http as asking
from services.ingest.platforms.hosts import PinnedTransport, is_inside
from services.ingest.platforms.http import ShopHttp
from services.ingest.platforms.port import Refused, Unavailable
from services.ingest.registration import api_url


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",  # noqa: S104
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::", "2002:c0a8:101::1", "fec0::1", "3fff::1", "192.88.99.1", "::ffff:192.88.99.1",
        "64:ff9b::c058:6301", "2002:c058:6301::", "64:ff9b:1::1", "64:ff9b::6440:1", "2002:6440:1::",
        "::ffff:100.64.0.1", "::ffff:0:7f00:1",
    ],
)  # fmt: skip
def test_inside(address: str) -> None:
    assert is_inside(address)


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"],
)
def test_outside(address: str) -> None:
    assert not is_inside(address)


async def test_nothing_of_our_own_network_is_asked() -> None:
    async with httpx.AsyncClient(transport=PinnedTransport("localhost")) as client:
        with pytest.raises(Refused, match="not of the public Internet"):
            await client.get("http://localhost:1/")


async def test_no_other_host_is_asked() -> None:
    async with httpx.AsyncClient(transport=PinnedTransport("shop.example", inside=True)) as client:
        with pytest.raises(Refused, match="not the store's own host"):
            await client.get("http://127.0.0.1:1/")


async def test_names_in_other_letters_are_asked_for_as_they_were_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver of Python would make `fass.de` of what httpx shows as `faß.de`."""
    asked: list[object] = []

    async def getaddrinfo(host: object, *_: object, **__: object) -> NoReturn:
        asked.append(host)
        raise OSError

    monkeypatch.setattr(asking, "TRIES", 1)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    http = ShopHttp("https://xn--fa-hia.de", auth=None, inside=False)
    with pytest.raises(Unavailable, match=r"^xn--fa-hia.de cannot be resolved"):
        await http.get("/", {})
    await http.aclose()
    assert asked == ["xn--fa-hia.de"]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (None, "https://shop.example"),
        ("https://shop.example/", "https://shop.example"),
        ("http://Shop.Example/blog/", "http://shop.example/blog"),
    ],
)
def test_addresses_of_an_api(text: str | None, url: str) -> None:
    assert api_url(text, "shop.example") == url


def test_the_api_of_one_site_of_several() -> None:
    assert api_url(None, "multi.example/de") == "https://multi.example/de"
    assert api_url("http://multi.example/wp", "multi.example/de") == "http://multi.example/wp"


@pytest.mark.parametrize(
    "text",
    [
        "ftp://shop.example", "https://other.example", "https://shop.example:8443", "https://shop.example@evil.example/",
        "https://evil.example#shop.example", "https://shop.example/?a=b", "https://shop.example/../x", "shop.example",
        "https://shop.example\\@evil.example/", "",
    ],
)  # fmt: skip
def test_addresses_that_are_none_of_this_store(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        api_url(text, "shop.example")
