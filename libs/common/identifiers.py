"""What a person can be known by: normalised, or refused as junk.

An identifier is text, `<kind>:<value>`: `email:ada@example.com`, `phone:+4915112345678`, and per store
`cart:<store>:<token>`, `checkout:<store>:<token>`.
"""

import re
from functools import lru_cache

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from libs.common.junk import Junk

_REMEMBERED = 65_536
LONGEST_EMAIL = 320
"""Characters, before it is looked at: whoever signs a webhook may send megabytes, for which the parsers take seconds,
and which would be remembered. A mailbox has 254."""
LONGEST_PHONE = 64
"""Characters; the longest number has 15 digits."""
_LONGEST_COUNTRY = 2
_DIGITS = re.compile(r"[0-9]+")


def email(raw: str | None, junk: Junk) -> str | None:
    """The address in lower case, its plus-tag kept; None when it is no address or junk."""
    if not raw or len(raw) > LONGEST_EMAIL:
        return None
    address = _email(raw)
    if address is None:
        return None
    local, _, domain = address.rpartition("@")
    if not junk.emails.isdisjoint((address, f"{local}@", f"@{domain}")):
        return None
    return address


def phone(raw: str | None, country: str | None, junk: Junk) -> str | None:
    """The number as E.164; `country` (ISO 3166-1 alpha-2) reads national ones. None when it is no number or junk."""
    if not raw or len(raw) > LONGEST_PHONE:
        return None
    parsed = _phone(raw, country if country and len(country) <= _LONGEST_COUNTRY else None)
    if parsed is None or parsed[1] in junk.phones:
        return None
    return parsed[0]


# Both parsers take some 25 µs, and the same few thousand people come again and again.


@lru_cache(_REMEMBERED)
def _email(raw: str) -> str | None:
    try:
        # Test shops live under .test, and may.
        checked = validate_email(raw.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return None
    return checked.normalized.lower()


@lru_cache(_REMEMBERED)
def _phone(raw: str, country: str | None) -> tuple[str, str] | None:
    if country is None and raw.lstrip().startswith("00"):
        # What is dialled before a country's code nearly everywhere; with a country its own is known.
        raw = f"+{raw.lstrip()[2:]}"
    try:
        number = phonenumbers.parse(raw, country.upper() if country else None)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    national = phonenumbers.national_significant_number(number)
    if len(set(national)) == 1 or not _DIGITS.fullmatch(national):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164), national
