from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.money import amount, exponent, known_currency, money, to_minor


@pytest.mark.parametrize(("currency", "places"), [("EUR", 2), ("USD", 2), ("JPY", 0), ("KWD", 3), ("KRW", 0)])
def test_exponents(currency: str, places: int) -> None:
    assert exponent(currency) == places


@pytest.mark.parametrize("code", ["", "eur", "EURO", "ZZZ", "XXX", "XTS", "€"])
def test_unknown_currencies(code: str) -> None:
    assert not known_currency(code)
    with pytest.raises(ValueError, match="unknown currency"):
        to_minor("1.00", code)


@pytest.mark.parametrize(
    ("value", "currency", "minor"),
    [
        ("12.50", "EUR", 1250),
        ("12.5", "EUR", 1250),
        ("12", "EUR", 1200),
        ("0.00", "EUR", 0),
        ("-0.00", "EUR", 0),
        ("-12.50", "EUR", -1250),
        ("+1.00", "EUR", 100),
        (" 7.10 ", "EUR", 710),
        (".5", "EUR", 50),
        ("5.", "EUR", 500),
        ("12.345", "EUR", 1235),
        ("12.3449999", "EUR", 1234),
        ("-12.345", "EUR", -1235),
        ("35.58", "JPY", 36),
        ("35.50", "JPY", 36),
        ("3558", "JPY", 3558),
        ("1.2345", "KWD", 1235),
        ("1e3", "EUR", 100_000),
        ("1E-2", "EUR", 1),
        ("1e-999", "EUR", 0),
        (170.19999999999999, "EUR", 17020),
        (1.005, "EUR", 101),
        (0.1 + 0.2, "EUR", 30),
        (12, "EUR", 1200),
        (Decimal("19.99"), "EUR", 1999),
        ("1000000000000000", "EUR", 10**17),
        ("1000000000000000", "KWD", 10**18),
    ],
)
def test_to_minor(value: str | float | Decimal, currency: str, minor: int) -> None:
    assert to_minor(value, currency) == minor


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "NaN",
        "inf",
        "-Infinity",
        "example string",
        "1,000.00",
        "1_000",
        "\u0661\u0662\u066b\u0665",
        "\u0661\u0662.\u0665",
        "\u00b2",
        "12.50 EUR",
        "0x10",
        "--1",
        "1000000000000000.01",
        "1e16",
        "1e999",
        "1e999999999",
        float("nan"),
        float("inf"),
        1e300,
        10**16,
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("1e400"),
        True,
    ],
)
def test_what_is_no_amount(value: str | float | Decimal) -> None:
    with pytest.raises(ValueError, match="amount"):
        to_minor(value, "EUR")


@pytest.mark.parametrize("value", [None, [], {}, b"1.00"])
def test_what_is_no_number_at_all(value: object) -> None:
    with pytest.raises(ValueError, match="not a decimal amount"):
        to_minor(value, "EUR")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (1250, "EUR", "12.50"),
        (5, "EUR", "0.05"),
        (-5, "EUR", "-0.05"),
        (0, "EUR", "0.00"),
        (36, "JPY", "36"),
        (1, "KWD", "0.001"),
    ],
)
def test_amount(minor: int, currency: str, text: str) -> None:
    assert amount(minor, currency) == text
    assert money(minor, currency) == {"amount": text, "currency": currency}


@given(st.integers(-(10**17), 10**17), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_what_is_printed_reads_back(minor: int, currency: str) -> None:
    if abs(minor) <= 10 ** (15 + exponent(currency)):
        assert to_minor(amount(minor, currency), currency) == minor


@given(st.decimals(-(10**12), 10**12, places=2))
def test_text_float_and_decimal_agree(value: Decimal) -> None:
    assert to_minor(str(value), "EUR") == to_minor(value, "EUR") == to_minor(float(value), "EUR") == int(value * 100)
