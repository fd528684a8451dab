import pytest

from libs.common import identifiers
from libs.common.identifiers import _email, _phone
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
        ("+49 151 12345601", "DE" * 1_000_000, "+4915112345601"),
        ("+49 151 12345601" + " " * 1_000_000, None, None),
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


def test_what_is_longer_than_any_address_is_not_looked_at() -> None:
    """The parser takes a second for each million of these, and what was parsed is remembered."""
    _email.cache_clear()
    _phone.cache_clear()
    assert identifiers.email("\u0301" * 1_000_000, Junk()) is None
    assert identifiers.phone("1" * 1_000_000, "DE", Junk()) is None
    assert (_email.cache_info().currsize, _phone.cache_info().currsize) == (0, 0)
    assert identifiers.email(f"{'a' * 60}@{'b' * 60}.example", Junk()) is not None
