"""What names nobody, though it looks as if it did: addresses and numbers that people and tills fill in to get on."""

import re
from dataclasses import dataclass
from typing import Self

import msgspec

_EMAIL = re.compile(r"[^@]+@[^@]*|@[^@]+")
_PHONE = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Junk:
    """What names nobody. Lower case."""

    emails: frozenset[str] = frozenset()
    """Whole addresses, local parts (`noreply@`) or domains (`@mailinator.com`)."""
    phones: frozenset[str] = frozenset()
    """National significant numbers, digits only; one digit repeated is always junk."""

    @classmethod
    def listed(cls, emails: str, phones: str) -> Self:
        """As settings list them. ValueError for what is none."""
        return cls(listed_emails(emails), listed_phones(phones))


def listed_emails(text: str) -> frozenset[str]:
    """Addresses and parts of them, as a setting lists them. ValueError for what is none."""
    for each in sorted(emails := _listed(text)):
        if not _EMAIL.fullmatch(each):
            raise ValueError(f"{each}: an address, a local part such as noreply@ or a domain such as @nomail.de")
    return emails


def listed_phones(text: str) -> frozenset[str]:
    """Numbers, as a setting lists them. ValueError for what is none."""
    for each in sorted(phones := _listed(text)):
        if not _PHONE.fullmatch(each):
            raise ValueError(f"{each}: digits alone")
    return phones


def _listed(text: str) -> frozenset[str]:
    """In lower case: by commas, or as JSON, which it was before. ValueError for other JSON."""
    if not text.startswith("["):
        return frozenset(filter(None, (each.strip().lower() for each in text.split(","))))
    try:
        return frozenset(each.lower() for each in msgspec.json.decode(text, type=list[str]))
    except msgspec.DecodeError as error:
        raise ValueError("neither by commas nor a JSON list of texts") from error
