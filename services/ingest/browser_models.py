"""What the API for browsers, and the API about their keys, takes and answers."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from libs.common.contracts.commerce import Identifiers
from libs.common.web.asked import Asked
from services.ingest.browser import LONGEST_PROOF_SECONDS
from services.ingest.event_models import Email, Phone, Told
from services.ingest.models import Identifier
from services.ingest.registration import MAX_ORIGINS, origin_of
from services.ingest.store import PublicKey

MOST_BROWSER_EVENTS = 50
LONGEST_PROOF = 4096


def _origin(text: str) -> str:
    try:
        return origin_of(text)
    except ValueError as error:
        detail = "This is not an origin such as `https://shop.example` (http: on localhost alone)."
        raise PydanticCustomError("origin", detail) from error


class BrowserEventIn(Told):
    """An event of a page, whose store the key says."""

    id: Annotated[
        Identifier, Field(description="The page's own, such as crypto.randomUUID(); it counts once for each key.")
    ]


class BrowserEventsIn(Asked):
    """What a page has to tell."""

    events: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_BROWSER_EVENTS)]
    proof: Annotated[
        str | None,
        Field(max_length=LONGEST_PROOF, description="Of `POST /v1/stores/{key}/proofs`: who the visitor is."),
    ] = None


class PublicKeyIn(Asked):
    """A public key to be made."""

    origins: Annotated[
        list[Annotated[str, Field(max_length=300), AfterValidator(_origin)]] | None,
        Field(
            min_length=1,
            max_length=MAX_ORIGINS,
            description="Of the pages that may use it. Default: `https://` and the store's domain.",
            examples=[["https://shop.example", "https://www.shop.example"]],
        ),
    ] = None


class PublicKeyOut(BaseModel):
    """A public key. It is no secret."""

    public_key: str
    origins: list[str]
    created_at: datetime
    created_by: Annotated[str, Field(description="Id of the API key.")]

    @classmethod
    def of(cls, key: PublicKey) -> Self:
        """As it stands."""
        return cls(public_key=key.key, origins=key.origins, created_at=key.created_at, created_by=key.created_by)


class ProofIn(Asked):
    """Whom the shop's server has logged in."""

    customer_id: Identifier | None = None
    email: Email | None = None
    phone: Phone | None = None
    expires_in_seconds: Annotated[
        int, Field(strict=True, ge=60, le=LONGEST_PROOF_SECONDS, description="For so long it may be used, by anybody.")
    ] = 3600

    def identifiers(self) -> Identifiers:
        """As the contract has them."""
        return Identifiers(customer_id=self.customer_id, email=self.email, phone=self.phone)


class ProofOut(BaseModel):
    """To be put into the page of this visitor, and nobody else's."""

    proof: str
    expires_at: datetime
