"""What the API takes and answers about privacy requests."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from libs.common.contracts.commerce import Identifiers
from libs.common.contracts.types import PrivacyKind
from libs.common.web.asked import Asked
from libs.common.web.instants import Instant
from services.ingest.event_models import Email
from services.ingest.mentions import ALIKE
from services.ingest.models import Identifier, Text
from services.ingest.printed import identifier
from services.ingest.privacy import Receipt, Request, State
from services.ingest.statements import asked_for


def _a_phone(text: str) -> str:
    if not asked_for(Identifiers(phone=text)):
        raise PydanticCustomError("phone", f"A phone number has {ALIKE} digits at least.")
    return text


class CustomerIn(Asked):
    """Whom a request is about; at least one of the three."""

    id: Annotated[Identifier | None, Field(description="The platform's own id of the customer.")] = None
    email: Annotated[Email | None, Field(examples=["ada@example.com"])] = None
    phone: Annotated[
        Annotated[Text, AfterValidator(_a_phone)] | None,
        Field(description="With the country's code.", examples=["+49 30 123456"]),
    ] = None

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not asked_for(self.identifiers()):
            raise PydanticCustomError("nobody", "At least one of id, email and phone has to say who it is.")
        return self

    def identifiers(self) -> Identifiers:
        """As events name somebody."""
        return Identifiers(customer_id=identifier(self.id), email=self.email, phone=self.phone)


class PrivacyRequestIn(Asked):
    """What somebody asked a shop for. Shopify sends such requests by itself."""

    store: Annotated[Text, Field(description="A store's key.")]
    kind: Annotated[
        Literal["data_request", "redact"], Field(description="To be shown what is kept of him, or to have it erased.")
    ]
    customer: CustomerIn
    due_at: Annotated[Instant | None, Field(description="The latest moment to have acted. Default: in 30 days.")] = None


class CustomerOut(BaseModel):
    """Whom a request is about. E-mail and phone are null once he is erased, and where nobody named them."""

    id: str | None
    email: str | None
    phone: str | None


class ReceiptOut(BaseModel):
    """What has come of a request in one service."""

    service: str
    state: State
    looked_at: Annotated[int, Field(description="Deliveries of the store, of those that came before the request.")]
    found: Annotated[int, Field(description="Of them: about the person. Of a redaction they are unreadable by now.")]
    at: Annotated[datetime | None, Field(description="When it was done.")]


class PrivacyRequestOut(BaseModel):
    """A privacy request. It is about what had come when it was received; what comes later is taken as ever."""

    id: str
    store: str
    kind: Annotated[PrivacyKind, Field(description="`redact_store`: all of a shop that left Shopify's app.")]
    customer: CustomerOut
    orders: Annotated[list[str], Field(description="The platform's ids of orders that are his, as the request says.")]
    received_at: datetime
    due_at: datetime
    asked_by: Annotated[str, Field(description="Id of the API key, or `shopify`.")]
    state: Annotated[State, Field(description="`done`: each of its receipts is.")]
    receipts: Annotated[
        list[ReceiptOut], Field(description="By service. So far ingest alone acts: what others hold of him stays.")
    ]

    @classmethod
    def of(cls, request: Request) -> Self:
        """As it stands."""
        named = {name: getattr(request, name) for name in cls.model_fields if hasattr(request, name)}
        who = request.who
        receipts = {"ingest": Receipt(), **request.receipts}
        return cls(
            **{
                **named,
                "customer": CustomerOut(id=who.customer_id, email=who.email, phone=who.phone),
                "receipts": [
                    ReceiptOut(
                        service=service,
                        state=receipt.state,
                        looked_at=receipt.looked_at,
                        found=receipt.found,
                        at=receipt.at,
                    )
                    for service, receipt in receipts.items()
                ],
            }
        )
