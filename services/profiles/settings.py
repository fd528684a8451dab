"""Settings of the profiles service."""

from typing import Annotated

from pydantic import Field

from libs.common.settings import CommonSettings

SCHEMA = "profiles"
CONSUMER = "profiles"


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
        tuple[str, ...],
        Field(
            description="E-mails that name nobody: whole addresses, local parts (`noreply@`) or domains (`@nomail.de`)."
        ),
    ] = (
        "noreply@",
        "no-reply@",
        "donotreply@",
        "do-not-reply@",
        "test@test.com",
        "none@none.com",
        "na@na.com",
        "noemail@noemail.com",
        "no@email.com",
        "asdf@asdf.com",
    )
    junk_phones: Annotated[
        tuple[str, ...],
        Field(
            description="Phone numbers that name nobody: national digits. One digit repeated is always junk.",
        ),
    ] = ("1234567890", "123456789", "12345678", "1234567", "9876543210", "5555555555")
    identity_fanout: Annotated[
        int,
        Field(
            ge=2,
            description="An e-mail or phone that names more accounts than this joins nobody.",
            json_schema_extra={"unit": "accounts"},
        ),
    ] = 20
    identity_token_fanout: Annotated[
        int,
        Field(
            ge=2,
            description="A cart or checkout token that names more accounts than this joins nobody.",
            json_schema_extra={"unit": "accounts"},
        ),
    ] = 10
