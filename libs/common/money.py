"""Money: integer minor units and an ISO 4217 code. Decimal places come from CLDR: EUR 2, JPY 0, KWD 3."""

import re
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import lru_cache

from babel.numbers import get_currency_precision, list_currencies
from pydantic import BaseModel, Field

LIMIT = Decimal(10) ** 15
"""No shop sells for more; larger figures are garbage, and would not fit into a bigint with three decimals."""

_NOT_MONEY = {"XXX", "XTS"}
"""ISO 4217's codes for "no currency" and "for testing"."""
_CURRENCIES = frozenset(list_currencies()) - _NOT_MONEY
_SHORT = 15
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_PRECISE = Context(prec=40, rounding=ROUND_HALF_UP)


class MoneyOut(BaseModel):
    """An amount as the API prints it."""

    amount: str = Field(description="Decimal with the currency's own number of places.", examples=["12.50"])
    currency: str = Field(description="ISO 4217 code.", examples=["EUR"])


def known_currency(code: str) -> bool:
    """Whether `code` is an ISO 4217 code (upper case)."""
    return code in _CURRENCIES


@lru_cache(maxsize=512)
def exponent(currency: str) -> int:
    """Decimal places of the currency. ValueError when it is unknown."""
    if not known_currency(currency):
        raise ValueError(f"unknown currency {currency!r}")
    return get_currency_precision(currency)


def to_minor(value: str | float | Decimal, currency: str) -> int:
    """Minor units of a decimal in whatever number of places a shop printed it.

    Rounds half away from zero. A float counts as its shortest decimal: 170.19999999999999 EUR is 17020. ValueError for
    anything that is not a finite decimal within ±10^15, and for an unknown currency.
    """
    places = exponent(currency)
    if type(value) is str:
        # What platforms nearly always print: plain digits in the currency's own places.
        whole, point, fraction = value.partition(".")
        digits = whole + fraction
        if point and len(fraction) == places and len(digits) <= _SHORT and digits.isascii() and digits.isdigit():
            return int(digits)
    return int(_decimal(value).scaleb(places, _PRECISE).to_integral_value(ROUND_HALF_UP))


def amount(minor: int, currency: str) -> str:
    """Plain decimal text with the currency's places: `amount(1250, "EUR")` is "12.50"."""
    places = exponent(currency)
    if not places:
        return str(minor)
    sign = "-" if minor < 0 else ""
    digits = str(abs(minor)).zfill(places + 1)
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


def money(minor: int, currency: str) -> dict[str, str]:
    """An amount as the API prints it: `{"amount": "12.50", "currency": "EUR"}`."""
    return {"amount": amount(minor, currency), "currency": currency}


def _decimal(value: object) -> Decimal:
    match value:
        case bool():
            text = ""
        case Decimal() if not value.is_finite():
            text = ""
        case Decimal():
            return _within_limit(value)
        case int() | float():
            text = repr(value)
        case str():
            text = value.strip()
        case _:
            text = ""
    if not _DECIMAL.fullmatch(text):
        # The value stays out of the message: it ends up in dead-letter reasons.
        raise ValueError("not a decimal amount")
    return _within_limit(Decimal(text))


def _within_limit(value: Decimal) -> Decimal:
    if abs(value) > LIMIT:
        raise ValueError("amount beyond 10^15")
    return value
