"""Settings of the profiles service."""

from typing import Annotated

from pydantic import Field

from libs.common.settings import CommonSettings
from services.profiles.identity.resolve import MOST_TOGETHER, TIES

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
