"""What may be registered as a store."""

import pytest

from services.ingest.registration import domain_of, host_of, origin_of, site_of, timezones


@pytest.mark.parametrize(
    ("typed", "domain"),
    [
        ("shop.example.com", "shop.example.com"),
        ("  HTTPS://Shop.Example.com/wp-json/?a=b#c ", "shop.example.com"),
        ("demo.myshopify.com/", "demo.myshopify.com"),
        ("http://shop.example:8080/a@b", "shop.example:8080"),
        ("localhost", "localhost"),
        ("127.0.0.1:65535", "127.0.0.1:65535"),
        ("https://shop.example.", "shop.example"),
        ("müsli.example", "xn--msli-0ra.example"),
        ("MÜSLI.example:8443", "xn--msli-0ra.example:8443"),
        ("faß.de", "xn--fa-hia.de"),
        ("XN--FA-HIA.de", "xn--fa-hia.de"),
        ("r3---a.shop.example", "r3---a.shop.example"),
    ],
)
def test_a_domain_is_a_host_name(typed: str, domain: str) -> None:
    assert domain_of(typed) == domain


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "https://",
        "a b.example",
        "-a.example",
        "a..b",
        "x" * 260,
        "a_b.example",
        "ü" * 80,
        "xn--a.example",
        "xn--fass-.de",
        "xn--" + "a" * 59 + ".example",
        "ada@shop.example",
        "http://user:pass@shop.example:8080/",
        "https://shop.example@evil.example/",
        "shop.example#b",
        "shop.example?a=b",
        "shop.example#@evil.example/",
        "shop.example\\@evil.example",
        "shop.example:70000x",
        "shop.example:65536",
        "shop.example:0",
        "a.example,b.example",
        "mailto:ada@shop.example",
    ],
)
def test_anything_else_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        domain_of(typed)


@pytest.mark.parametrize(
    ("typed", "site"),
    [
        ("shop.example", "shop.example"),
        ("https://Shop.Example/", "shop.example"),
        ("https://Multi.Example/De//", "multi.example/De"),
        ("multi.example:8443/a/b_c?lang=de#top", "multi.example:8443/a/b_c"),
        ("https://multi.example/de/wp-admin/options.php", "multi.example/de"),
        ("https://shop.example/wp-json/wc/v3", "shop.example"),
        ("shop.example/index.php/shop", "shop.example"),
    ],
)
def test_a_site_is_a_host_name_and_the_path_to_it(typed: str, site: str) -> None:
    assert (site_of(typed), host_of(site)) == (site, domain_of(typed))


@pytest.mark.parametrize(
    "typed",
    ["shop.example/../x", "shop.example/.hidden", "shop.example/a b", "shop.example/a@b", "shop.example/%2e%2e",
     "shop.example/" + "a/" * 120, "ada@shop.example/de", "/de", "shop.example:99999/de", "shop.example/ä"],
)  # fmt: skip
def test_any_other_path_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="not a "):
        site_of(typed)


def test_zones_are_iana_names() -> None:
    assert {"Europe/Berlin", "UTC"} <= timezones()
    assert "Mars/Olympus" not in timezones()


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Shop.Example", "https://shop.example"),
        ("https://shop.example:443/", "https://shop.example"),
        ("https://shop.example:8443", "https://shop.example:8443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://[2001:DB8:0::1]", "https://[2001:db8::1]"),
    ],
)
def test_an_origin_is_spelt_as_browsers_do(text: str, origin: str) -> None:
    assert origin_of(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        "*", "null", "", "shop.example", "http://shop.example", "https://*.shop.example", "https://shop.example/path",
        "https://ada:pass@shop.example", "https://shop.example?x", "https://shop.example#x", "https://shop.example:0",
        "https://shop.example:70000", "ftp://shop.example", "https://", "https://[::zz]", "https://a b.example",
        "https://shop.example\nhttps://evil.example",
    ],
)  # fmt: skip
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        origin_of(text)
