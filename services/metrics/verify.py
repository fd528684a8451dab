"""The figures recounted in SQL from the facts, without points and sums, and compared with what was folded."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from prometheus_client import Counter

from libs.common.db import Database, Tx
from libs.common.telemetry import gauge, get_logger
from services.metrics import steps
from services.metrics.algebra import WINDOWS, Scope
from services.metrics.facts import micros
from services.metrics.kpis import Figures, figures, instants

DAYS_BACK = (0, 1, 7, 45, 200)
"""At which instants, in days before the one asked for: the past is corrected all the time."""

DIFFERENCES = gauge(
    "regulars_metrics_differences", "Figures that the last recount of each scope found different from the fold."
)
RECOUNTS = Counter("regulars_metrics_recounts_total", "Scopes recounted from the facts by the watch.")

log = get_logger(__name__)

_RECOUNT = Path(__file__).with_name("verify.sql").read_text(encoding="utf-8")


class Asked(NamedTuple):
    """One window of one scope."""

    scope: Scope
    as_of: datetime
    window: str

    @property
    def length(self) -> int:
        """Microseconds."""
        return WINDOWS[self.window]


class Difference(NamedTuple):
    """A figure that is not what the facts say; or a sum that is not that of its points, by its tier."""

    store: str
    currency: str
    as_of: datetime
    window: str | None
    figure: str
    folded: int | None
    recounted: int | None


async def verify(tx: Tx, tenant: str, as_of: datetime) -> tuple[int, list[Difference]]:
    """How many figures were compared and which differ: every scope and window, now and at instants of the past."""
    checked, found = 0, list[Difference]()
    for scope in await steps.scopes(tx, tenant):
        asked = [Asked(scope, as_of - timedelta(days=back), window) for back in DAYS_BACK for window in WINDOWS]
        checked += len(asked) * len(Figures._fields)
        found += await compare(tx, tenant, asked)
    for table, store, currency, tier, at in await steps.uneven(tx, tenant):
        found.append(Difference(store, currency, at, None, f"{table}, tier {tier}", None, None))
    return checked, found


async def compare(tx: Tx, tenant: str, asked: Sequence[Asked]) -> list[Difference]:
    """Where fold and recount differ."""
    found = []
    for window, counted in zip(asked, await recount(tx, tenant, asked), strict=True):
        at = micros(window.as_of)
        totals, longer = await steps.read(tx, window.scope, window.length, instants(at, window.length))
        folded = figures(totals, longer, at, window.length)
        _, store, currency = window.scope
        found += [
            Difference(store, currency, window.as_of, window.window, name, one, other)
            for name, one, other in zip(Figures._fields, folded, counted, strict=True)
            if one != other
        ]
    return found


async def recount(tx: Tx, tenant: str, asked: Sequence[Asked]) -> list[Figures]:
    """The figures of these windows, from the facts."""
    rows = await tx.pg.fetch(
        _RECOUNT,
        tenant,
        [window.scope[1] for window in asked],
        [window.scope[2] for window in asked],
        [window.as_of for window in asked],
        [timedelta(microseconds=window.length) for window in asked],
    )
    return [Figures(**{name: int(row[name] or 0) for name in Figures._fields}) for row in rows]


class Watch:
    """Recounts one scope at a time, in turn, so that what is wrong is seen before somebody asks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found: dict[Scope, int] = {}
        self._waiting: list[Scope] = []

    async def run(self, now: datetime) -> bool:
        """A turn; never asks to be run again at once."""
        async with self._database.reading() as tx:
            if not self._waiting:
                self._waiting = [
                    scope for tenant in await steps.tenants(tx) for scope in await steps.scopes(tx, tenant)
                ]
                self._found = {scope: self._found.get(scope, 0) for scope in self._waiting}
            if self._waiting:
                scope = self._waiting.pop()
                different = await compare(tx, scope[0], [Asked(scope, now, window) for window in WINDOWS])
                self._found[scope] = len(different)
                for one in different:
                    log.error("figure differs from its facts", tenant=scope[0], **one._asdict())
        DIFFERENCES.set(sum(self._found.values()))
        RECOUNTS.inc()
        return False
