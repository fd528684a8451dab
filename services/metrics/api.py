"""`/v1/kpis`: every KPI of a window and of the one before, and the proof that they are what the facts say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from libs.common.auth import Principal, require
from libs.common.clock import Clock
from libs.common.db import Database
from libs.common.money import MoneyOut, known_currency, money
from libs.common.problems import invalid_parameter, not_found_by, with_plus
from services.metrics import steps, verify
from services.metrics import store as known
from services.metrics.algebra import ALL_STORES, WINDOWS
from services.metrics.definitions import DEFINITIONS
from services.metrics.facts import EPOCH, micros
from services.metrics.kpis import Kpi, figures, instants, kpis

Window = Literal["24h", "7d", "30d", "90d", "365d"]

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the routes need."""

    database: Database
    clock: Clock


class KpiOut(BaseModel):
    """One KPI, exact: `value` is `numerator` / `denominator`, and null where that is undefined."""

    value: int | float | MoneyOut | None
    numerator: int | MoneyOut | None = Field(description="Null only for money in a scope without any currency.")
    denominator: int
    previous: int | float | MoneyOut | None = Field(description="The same value for the window before.")


_DESCRIBED: dict[str, Any] = {
    name: {"$ref": "#/components/schemas/KpiOut", "description": definition.text}
    for name, definition in DEFINITIONS.items()
}


class KpisOut(BaseModel):
    """All KPIs of the window [`as_of` - window, `as_of`)."""

    as_of: datetime
    window: Window
    store: str | None = Field(description="Null: all stores.")
    currency: str | None = Field(description="Null: nothing has been sold or begun here yet.")
    kpis: Annotated[dict[str, KpiOut], Field(json_schema_extra={"properties": _DESCRIBED})]


class DifferenceOut(BaseModel):
    """A figure that is not what the facts say; without a window: sums that are not those of their points."""

    store: str | None
    currency: str
    as_of: datetime
    window: str | None
    figure: str
    folded: int | None
    recounted: int | None


class VerifyOut(BaseModel):
    """How many figures were recounted, and which differ."""

    as_of: datetime
    checked: int
    differences: list[DifferenceOut]


router = APIRouter(tags=["metrics"])

AsOf = Annotated[str | None, Query(description="RFC 3339; now when left out.", examples=["2026-03-01T00:00:00Z"])]
Reader = Annotated[Principal, Depends(require("metrics:read"))]
StoreFilter = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        description="A store's key; all stores when left out. 404 when there is none of it, or when it was registered a"
        " moment ago.",
    ),
]


@router.get("/v1/kpis")
async def read_kpis(
    request: Request,
    principal: Reader,
    window: Window = "30d",
    store: StoreFilter = None,
    currency: Annotated[str | None, Query(description="ISO 4217; may be left out where there is only one.")] = None,
    as_of: AsOf = None,
) -> KpisOut:
    """Every KPI with its numerator, its denominator and its value in the window before."""
    metrics = _metrics(request)
    at = _instant(as_of, metrics.clock)
    length, place = WINDOWS[window], store or ALL_STORES
    async with metrics.database.reading() as tx:
        there = await steps.currencies(tx, principal.tenant, place)
        if store is not None and not there and not await known.knows_store(tx, principal.tenant, store):
            raise not_found_by("store", "store", "Has it been registered only now, ask again in a moment.")
        chosen = _currency(there, currency)
        here = micros(at)
        asked = instants(here, length)
        totals, longer = await steps.read(tx, (principal.tenant, place, chosen or ""), length, asked)
    now = kpis(figures(totals, longer, here, length), length)
    before = kpis(figures(totals, longer, here - length, length), length)
    return KpisOut(
        as_of=at,
        window=window,
        store=store,
        currency=chosen,
        kpis={
            name: KpiOut(
                value=_value(kpi, chosen),
                numerator=_numerator(kpi, chosen),
                denominator=kpi.denominator,
                previous=_value(before[name], chosen),
            )
            for name, kpi in now.items()
        },
    )


@router.get("/v1/kpis/verify")
async def verify_kpis(request: Request, principal: Reader, as_of: AsOf = None) -> VerifyOut:
    """Recounts every figure of every scope and window from the facts, at `as_of` and at instants before it."""
    metrics = _metrics(request)
    at = _instant(as_of, metrics.clock)
    async with metrics.database.reading() as tx:
        checked, found = await verify.verify(tx, principal.tenant, at)
    return VerifyOut(
        as_of=at,
        checked=checked,
        differences=[
            DifferenceOut(**one._asdict() | {"store": None if one.store == ALL_STORES else one.store}) for one in found
        ],
    )


def _metrics(request: Request) -> Metrics:
    return cast("Metrics", request.app.state.metrics)


def _currency(there: Sequence[str], asked: str | None) -> str | None:
    """The currency to answer in, of those that there are. Problem 422 where that is not clear."""
    if asked is not None:
        if not known_currency(asked):
            raise invalid_parameter("currency", "This is not an ISO 4217 code in capitals, such as EUR.")
        return asked
    if len(there) > 1:
        raise invalid_parameter("currency", f"There are several; ask for one of {', '.join(there)}.")
    return there[0] if there else None


def _instant(text: str | None, clock: Clock) -> datetime:
    """What `as_of` says, UTC. Problem 422 when it says nothing."""
    if text is None:
        return clock.now()
    if not _RFC_3339.fullmatch(text):
        detail = "This is not a time as in RFC 3339, such as 2026-03-01T00:00:00Z."
        raise invalid_parameter("as_of", with_plus(detail) if " " in text else detail)
    try:
        at = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid_parameter("as_of", "There is no such time.") from error
    if at < EPOCH:
        raise invalid_parameter("as_of", "This is before 1970.")
    return at


def _value(kpi: Kpi, currency: str | None) -> Any:
    value = kpi.value
    if kpi.unit != "money" or value is None:
        return value
    return None if currency is None else MoneyOut(**money(int(value), currency))


def _numerator(kpi: Kpi, currency: str | None) -> Any:
    if kpi.unit != "money":
        return kpi.numerator
    return None if currency is None else MoneyOut(**money(kpi.numerator, currency))
