"""Flows as data: what starts a run, what it says and when, what ends it, and how soon another may begin.

A flow is stored as JSON, one row for each version; runs finish on the version that they began with.
"""

from datetime import timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from libs.common.contracts.types import Channel

Trigger = Literal["basket_abandoned", "profile_lapsed"]
"""`basket_abandoned`: a cart or checkout of a known person lies idle. `profile_lapsed`: a buyer was not seen."""

Exit = Literal["ordered", "completed", "emptied", "superseded", "active", "erased", "unsubscribed", "store_deleted"]
"""What ends a run at once. `superseded`: the cart has become a checkout, which has a run of its own."""
OF_ANY_FLOW: frozenset[Exit] = frozenset({"store_deleted"})
"""What ends its runs, whatever a flow says."""


class Variant(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the texts that a step chooses from."""

    template: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
    weight: Annotated[int, Meta(ge=0, le=1000)] = 1


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a flow."""

    delay: timedelta
    """After the last change (baskets) or the last order or activity (lapses)."""
    ceiling: timedelta
    """Due longer ago than this: too late, never sent."""
    variants: Annotated[tuple[Variant, ...], Meta(min_length=1)]
    discount_code: str | None = None


class Filters(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What must hold, when a run begins and whenever it speaks."""

    minimum_items: Annotated[int, Meta(ge=1)] = 1


class Flow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of a flow."""

    key: str
    version: Annotated[int, Meta(ge=1)]
    name: str
    trigger: Trigger
    steps: Annotated[tuple[Step, ...], Meta(min_length=1)]
    exits: frozenset[Exit]
    again_after: timedelta
    """Least time between the beginnings of two runs of one profile."""
    channel: Channel = "email"
    transactional: bool = False
    filters: Filters = Filters()
    holdout: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of profiles that get nothing, so that the flow's effect can be measured."""

    def control(self, profile: str) -> bool:
        """Whether this profile is in the control group; the same answer for ever."""
        return share("holdout", profile, self.key) < self.holdout

    def template(self, step: int, profile: str) -> str:
        """The text that this profile gets in `step` (from 1)."""
        variants = self.steps[step - 1].variants
        place = share("variant", profile, self.key, str(step)) * sum(variant.weight for variant in variants)
        for variant in variants:
            place -= variant.weight
            if place < 0:
                return variant.template
        return variants[-1].template


def share(*parts: str) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(sha256("\0".join(parts).encode()).digest()[:7]) / 2**56


def encode(flow: Flow) -> str:
    """As stored."""
    return msgspec.json.encode(flow, order="deterministic").decode()


@lru_cache(maxsize=1024)
def decode(definition: str) -> Flow:
    """From the stored form. Raises msgspec.ValidationError."""
    return msgspec.json.decode(definition, type=Flow)


_CART_CEILING = timedelta(hours=6)
_CEILING = timedelta(hours=24)

CART_ABANDONMENT = Flow(
    key="cart_abandonment",
    version=1,
    name="Abandoned carts and checkouts",
    trigger="basket_abandoned",
    steps=(
        Step(delay=timedelta(minutes=45), ceiling=_CART_CEILING, variants=(Variant(template="cart_abandonment_1"),)),
        Step(delay=timedelta(hours=24), ceiling=_CART_CEILING, variants=(Variant(template="cart_abandonment_2"),)),
        Step(delay=timedelta(hours=48), ceiling=_CART_CEILING, variants=(Variant(template="cart_abandonment_3"),)),
    ),
    exits=frozenset({"ordered", "completed", "emptied", "superseded", "erased", "unsubscribed"}),
    again_after=timedelta(hours=24),
)

RE_ENGAGEMENT = Flow(
    key="re_engagement",
    version=1,
    name="Buyers who were not seen for a month",
    trigger="profile_lapsed",
    steps=(
        Step(delay=timedelta(days=30), ceiling=_CEILING, variants=(Variant(template="re_engagement_1"),)),
        Step(delay=timedelta(days=37), ceiling=_CEILING, variants=(Variant(template="re_engagement_2"),)),
    ),
    exits=frozenset({"ordered", "active", "erased", "unsubscribed"}),
    again_after=timedelta(days=90),
)

BUILT_IN = (CART_ABANDONMENT, RE_ENGAGEMENT)
"""What every tenant begins with."""
