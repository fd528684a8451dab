"""What the API takes and answers about the webhooks that a store's platform has for us."""

from typing import Annotated, Self

from pydantic import BaseModel, Field

from libs.common.web.asked import Asked
from services.ingest.connecting import Connection, Done, Trial
from services.ingest.fetch_models import CredentialsOut
from services.ingest.models import Text
from services.ingest.wanted import State

SIGNED_BY_THE_APP = (
    "Shopify signs what an app is subscribed to with that app's client secret, which cannot be seen from here: it has"
    " to be among the store's secrets."
)


class ConnectionIn(Asked):
    """What the platform should send."""

    topics: Annotated[
        list[Text] | None,
        Field(max_length=100, description="What is left out is not missed from then on. Default: all that are read."),
    ] = None


class SubscriptionOut(BaseModel):
    """A webhook that is wanted, and how it is with it."""

    topic: str
    state: Annotated[
        State,
        Field(
            description="`elsewhere`: it goes to an address that we had before; `gone`: there was one; `unwanted`: it"
            " was left out on purpose."
        ),
    ]
    done: Annotated[Done | None, Field(description="By this request. `signed`: it got the store's secret.")] = None
    reason: Annotated[str | None, Field(description="Why it is not active.")] = None


class TrialOut(BaseModel):
    """A signed delivery of our own through the public address."""

    arrived: bool
    status: Annotated[int | None, Field(description="Of the answer; null when there was none.")]
    reason: str | None


class ConnectionOut(BaseModel):
    """What a platform sends us of a store."""

    store: str
    platform: str
    webhook_url: Annotated[str, Field(description="Where it should send it.")]
    credentials: CredentialsOut
    complete: Annotated[bool, Field(description="All that is wanted is active, and the test, if any, arrived.")]
    subscriptions: list[SubscriptionOut]
    others: Annotated[int, Field(description="Webhooks to other people's addresses, which are left alone.")]
    test: Annotated[TrialOut | None, Field(description="Null where only was looked.")] = None
    notes: Annotated[list[str], Field(description="What cannot be seen from here.")] = []

    @classmethod
    def of(cls, found: Connection, credentials: CredentialsOut, webhook_url: str, test: Trial | None = None) -> Self:
        """As it was found or made."""
        every = [
            SubscriptionOut(topic=each.kept.topic, state=each.kept.state, done=each.done, reason=each.kept.reason)
            for each in found.topics
        ]
        complete = all(each.state in {"active", "unwanted"} for each in every)
        return cls(
            store=found.used.store,
            platform=found.used.platform,
            webhook_url=webhook_url,
            credentials=credentials,
            complete=complete and (test is None or test.arrived),
            subscriptions=every,
            others=found.others,
            test=TrialOut(**test._asdict()) if test is not None else None,
            notes=[SIGNED_BY_THE_APP] if found.used.platform == "shopify" and not found.app_signs else [],
        )
