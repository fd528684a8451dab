import pytest

from libs.common import identifiers
from libs.common.junk import Junk

JUNK = Junk(frozenset({"noreply@", "test@test.com", "@mailinator.com"}), frozenset({"1234567890"}))


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        ("Ada@Example.com", "ada@example.com"),
        ("  ada@example.com ", "ada@example.com"),
        ("ada+shop@example.com", "ada+shop@example.com"),
        ("ada@shop.test", "ada@shop.test"),
        ("jörg@example.com", "jörg@example.com"),
        ("NoReply@shop.com", None),
        ("test@test.com", None),
        ("anybody@mailinator.com", None),
        ("test@example.com", "test@example.com"),
        ("ada@localhost", None),
        ("ada@@example.com", None),
        ("ada", None),
        ("ada\x00@example.com", None),
        ("", None),
        (None, None),
    ],
)
def test_email(raw: str | None, address: str | None) -> None:
    assert identifiers.email(raw, JUNK) == address


@pytest.mark.parametrize(
    ("raw", "country", "number"),
    [
        ("+49 151 12345601", None, "+4915112345601"),
        ("0151 12345601", "DE", "+4915112345601"),
        ("0151 12345601", "de", "+4915112345601"),
        ("0151 12345601", None, None),
        ("(212) 555-0123", "US", "+12125550123"),
        ("555-0123", "US", None),
        ("0049 151 12345601", "DE", "+4915112345601"),
        (" 0049 151 12345601", None, "+4915112345601"),
        ("0000000", "DE", None),
        ("0000000", None, None),
        ("+1 123 456 7890", None, None),
        ("call me", "DE", None),
        ("12", "DE", None),
        ("0151 12345601", "XX", None),
        ("", "DE", None),
        (None, "DE", None),
    ],
)
def test_phone(raw: str | None, country: str | None, number: str | None) -> None:
    assert identifiers.phone(raw, country, JUNK) == number
