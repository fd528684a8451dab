"""What we believe to be there, against what a platform shows: deletions, and their opposite."""

from collections.abc import Sequence
from datetime import datetime

from services.ingest.platforms.port import Fetched, Kind, Platform, Refused
from services.ingest.seen import Known

ROOTS: dict[str, Kind] = {"order": "orders", "customer": "customers", "product": "products"}
"""Checkouts are not among them: platforms forget those by themselves."""
GONE_AT_ONCE = 20
"""When all of so many objects are gone, and nothing else is there either, it is more likely that we may not see any.

Alone it is not: of a shop whose drafts are thrown away every day a hundred ids in a row may be gone.
"""


async def gone(platform: Platform, known: Sequence[Known], now: datetime) -> list[Known]:
    """Those that are not there any more. Raises Refused when it is more likely that they may not be seen."""
    found: list[Known] = []
    for name, kind in ROOTS.items():
        mine = {each.root.partition(":")[2]: each for each in known if each.root.startswith(f"{name}:")}
        ids = await platform.gone(kind, [*mine]) if mine else set()
        if len(ids) == len(mine) >= GONE_AT_ONCE and not await _shows_any(platform, kind, now):
            raise Refused(f"the shop shows no {kind} at all: may these credentials see them?")
        found += [mine[each] for each in sorted(ids)]
    return found


async def back(platform: Platform, known: Sequence[Known]) -> list[Fetched]:
    """Of those that were gone, the ones that are shown again."""
    shown: list[Fetched] = []
    for name, kind in ROOTS.items():
        missed = [each.root.partition(":")[2] for each in known if each.root.startswith(f"{name}:")]
        shown += await platform.those(kind, missed) if missed else []
    asked = {each.root for each in known}
    return [each for each in shown if each.root in asked]


async def _shows_any(platform: Platform, kind: Kind, now: datetime) -> bool:
    page = await platform.page(kind, since=None, until=now, following=None)
    return bool(page.objects or page.following)
