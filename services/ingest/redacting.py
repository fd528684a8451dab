"""The periodic `privacy requests`: looks through a store's deliveries for a person, and makes his unreadable.

First whose objects are whose: an order that a person placed as a guest is his, and so are its refunds, which name
nobody. Then what was asked for: a redaction leaves digests in place of bodies, in the journal and among dead letters; a
request for data counts what its export will hold. Steps are bounded and kept with how far they came in one transaction,
so whoever dies goes on where he was. What was observed of it meanwhile ends with the retention of `commerce`.
"""

from datetime import datetime

from msgspec.structs import replace

from libs.common.db import Database, Tx
from libs.common.telemetry import get_logger
from services.ingest import privacy, seen
from services.ingest.privacy import SERVICE, Receipt, Request
from services.ingest.subjects import own_root

PRIVACY_SECONDS = 1.0
"""Between two steps: what comes in live has to get through beside it."""

log = get_logger(__name__)


class PrivacyRequests:
    """Takes the open requests by turns, a step at a time: tenants first, then those of one tenant."""

    def __init__(self, database: Database, *, batch: int) -> None:
        """`batch`: deliveries of one step, at most."""
        self._database = database
        self._batch = batch
        self._served = ""
        """Whose turn it was."""

    async def run(self, now: datetime) -> bool:
        """One step of one request. Again at once after one that had less to look at than it might have."""
        request: Request | None = None
        again = False
        try:
            async with self._database.transaction() as tx:
                request = await privacy.claim(tx, after=self._served)
                if request is not None:
                    self._served = request.tenant
                    further, again = await self._further(tx, request, now)
                    await privacy.save(tx, further)
        except Exception:
            if request is not None:
                # One that fails at each step must not stand before all the others, of other tenants, too.
                async with self._database.transaction() as tx:
                    await privacy.put_back(tx, request)
            raise
        return again

    async def _further(self, tx: Tx, request: Request, now: datetime) -> tuple[Request, bool]:
        if request.state == "waiting":
            oldest = await seen.oldest_unread(tx)
            if oldest is not None and request.taken_at is not None and oldest <= request.taken_at:
                # What was received before it, and is read after it, would be overlooked.
                return request, False
            request = replace(request, state="running")
        held, last = await privacy.following(tx, request, self._batch)
        found = privacy.persons(request, held)
        reached = held[-1].id if held else request.reached
        before = request.receipt
        receipt = Receipt(state="running", looked_at=before.looked_at + len(held), found=before.found + len(found))
        if request.step == "look":
            roots = {root for each in found if each.root and (root := own_root(each.root)) is not None}
            further = replace(request, reached=reached, roots=sorted({*request.roots, *roots}))
            # The other step looks at all of them once more.
            acting = replace(further, step="act", reached=None)
            return (_noted(acting, Receipt(state="running")) if last else _noted(further, receipt)), last
        if request.kind != "data_request":
            await privacy.remove(tx, request.tenant, found)
        if last:
            receipt = replace(receipt, state="done", at=now)
            if request.kind != "data_request":
                await privacy.forget(tx, request)
            log.info(
                "privacy request done",
                tenant=request.tenant,
                request=request.id,
                kind=request.kind,
                looked_at=receipt.looked_at,
                found=receipt.found,
            )
        # Ingest's is the only part that there is so far.
        return _noted(replace(request, reached=reached, state=receipt.state), receipt), last


def _noted(request: Request, receipt: Receipt) -> Request:
    return replace(request, receipts={**request.receipts, SERVICE: receipt})
