"""Settings of the profiles service."""

import re
from typing import Annotated

import msgspec
from pydantic import Field, field_validator

from libs.common.settings import CommonSettings
from services.profiles.identity.resolve import MOST_TOGETHER, TIES

SCHEMA = "profiles"
CONSUMER = "profiles"

_JUNK_EMAIL = re.compile(r"[^@]+@[^@]*|@[^@]+")
_JUNK_PHONE = re.compile(r"[0-9]+")


class ProfilesSettings(CommonSettings):
    """What may be configured of identity, and how much is done at once."""

    profiles_batch_size: Annotated[
        int,
        Field(
            ge=1,
            le=5000,
            description="Most observations handled in one transaction.",
            json_schema_extra={"unit": "events"},
        ),
    ] = 500

    junk_emails: Annotated[
        str,
        Field(
            description="E-mails that name nobody, by commas or as a JSON list: whole addresses, local parts"
            " (`noreply@`) or domains (`@nomail.de`). Replaces the default.",
        ),
    ] = (
        "noreply@,no-reply@,donotreply@,do-not-reply@,test@test.com,none@none.com,na@na.com,noemail@noemail.com,"
        "no@email.com,asdf@asdf.com"
    )
    junk_phones: Annotated[
        str,
        Field(
            description="Phone numbers that name nobody, by commas or as a JSON list: national digits. One digit"
            " repeated is always junk. Replaces the default.",
        ),
    ] = "1234567890,123456789,12345678,1234567,9876543210,5555555555"
    identity_fanout: Annotated[
        int,
        Field(
            ge=2,
            description="An e-mail or phone that names more accounts than this joins nobody. Nor does anything join"
            f" more than {MOST_TOGETHER:,} that hang together, one through another, or by more than"
            f" {MOST_TOGETHER * TIES:,} ties (an account and what it shares with others): each stands alone.",
            json_schema_extra={"unit": "accounts"},
        ),
    ] = 20
    identity_token_fanout: Annotated[
        int,
        Field(
            ge=2,
            description="A cart or checkout token that names more accounts than this joins nobody; those that nameless"
            " visitors tie together count as one, of no more ties than others may have.",
            json_schema_extra={"unit": "accounts"},
        ),
    ] = 10

    @field_validator("junk_emails")
    @classmethod
    def _are_addresses(cls, text: str) -> str:
        for each in sorted(listed(text)):
            if not _JUNK_EMAIL.fullmatch(each):
                raise ValueError(f"{each}: an address, a local part such as noreply@ or a domain such as @nomail.de")
        return text

    @field_validator("junk_phones")
    @classmethod
    def _are_digits(cls, text: str) -> str:
        for each in sorted(listed(text)):
            if not _JUNK_PHONE.fullmatch(each):
                raise ValueError(f"{each}: digits alone")
        return text


def listed(text: str) -> frozenset[str]:
    """What a setting lists, in lower case: by commas, or as JSON, which it was before. ValueError for other JSON."""
    if not text.startswith("["):
        return frozenset(filter(None, (each.strip().lower() for each in text.split(","))))
    try:
        return frozenset(each.lower() for each in msgspec.json.decode(text, type=list[str]))
    except msgspec.DecodeError as error:
        raise ValueError("neither by commas nor a JSON list of texts") from error
