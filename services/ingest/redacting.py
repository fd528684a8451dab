"""The periodic `privacy requests`: looks through a store's deliveries for a person, and makes his unreadable.

First who he is (`services.ingest.learning`): an order that he placed as a guest is his, and so are its refunds, which
name nobody. It takes as many turns through the deliveries as bring anything new. Then what was asked for: a redaction
leaves digests in place of bodies, in the journal and among dead letters; a request for data counts what its export will
hold. Steps are bounded and kept with how far they came in one transaction, so whoever dies goes on where he was. What
was observed of it meanwhile ends with the retention of `commerce`.
"""

import asyncio
import math
from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from libs.common.crypto import Keyring
from libs.common.db import Database, Tx
from libs.common.telemetry import get_logger
from services.ingest import erasing, learning, privacy, seen
from services.ingest.marks import Marks
from services.ingest.privacy import SERVICE, Held, Receipt, Request
from services.ingest.statements import asked_for

PRIVACY_SECONDS = 1.0
"""Between two runs: what comes in live has to get through beside them."""
BATCH = 200
"""Deliveries of one step: they hold up the process for some 40 ms."""

log = get_logger(__name__)


class PrivacyRequests:
    """Takes the open requests by turns, a step at a time: tenants first, then those of one tenant."""

    def __init__(self, database: Database, keyring: Keyring, *, rate: int, batch: int = BATCH) -> None:
        """`rate`: deliveries of one run, at most; `batch`: of one step of it."""
        self._database = database
        self._keyring = keyring
        self._batch = min(batch, rate)
        self._steps = math.ceil(rate / batch)
        self._served = ""
        """Whose turn it was."""

    async def run(self, now: datetime) -> bool:
        """As many steps as the rate allows. Again at once when the last one had less to look at than it might have."""
        again = False
        for _ in range(self._steps):
            worked, again = await self._step(now)
            if not worked:
                break
        return again

    async def _step(self, now: datetime) -> tuple[bool, bool]:
        """One step of one request: whether there was one, and whether it had less to look at."""
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
        return request is not None, again

    async def _further(self, tx: Tx, request: Request, now: datetime) -> tuple[Request, bool]:
        if request.state == "waiting":
            oldest = await seen.oldest_unread(tx)
            if oldest is not None and request.taken_at is not None and oldest <= request.taken_at:
                # What was received before it, and is read after it, would be overlooked.
                return request, False
            request = replace(request, state="running")
        marks = Marks(self._keyring, request.tenant, request.store)
        held, last = await privacy.following(tx, request, self._batch)
        if request.step == "look":
            return await _learned(tx, request, held, marks, last=last), last
        # In a thread, as below: bodies of megabytes take seconds each, and others' events are not to wait for them.
        found = await asyncio.to_thread(privacy.persons, request, held)
        reached = held[-1].id if held else request.reached
        receipt = _counted(request, held, len(found))
        if request.kind != "data_request":
            await erasing.remove(tx, request.tenant, found)
            await erasing.rename(tx, request, held, marks)
        if last:
            receipt = replace(receipt, state="done", at=now)
            if request.kind != "data_request":
                request = await erasing.forget(tx, request, marks)
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


async def _learned(tx: Tx, request: Request, held: Sequence[Held], marks: Marks, *, last: bool) -> Request:
    """With what these teach of who he is, beside what redactions before it knew."""
    before = request.learning or learning.begun(asked_for(request.who), request.roots, (1, request.reached or ""))
    turn, _ = before.at
    at = (turn + 1, "") if last else (turn, held[-1].id)
    readable = [told for each in held if (told := each.told) is not None]
    roots, met = await privacy.earlier(tx, request, {*request.marks, *marks.any_of(before.names)})
    names, objects = marks.met(readable, met)
    known_before = learning.knowing(before, names, roots | objects)
    after, found = await asyncio.to_thread(learning.looked, known_before, readable, at)
    further = replace(request, learning=after, reached=None if last else held[-1].id, marks=sorted(met))
    if not after.done:
        # Each turn counts anew.
        return _noted(further, Receipt(state="running") if last else _counted(request, held, found))
    if after.gave_up:
        log.warning("privacy request learns no more", tenant=request.tenant, request=request.id, turns=learning.TURNS)
    known = replace(further, names=sorted(after.names), roots=sorted(after.roots), learning=None)
    # The other step looks at all of them once more.
    return _noted(replace(known, step="act", reached=None), Receipt(state="running"))


def _counted(request: Request, held: Sequence[Held], found: int) -> Receipt:
    before = request.receipt
    return Receipt(state="running", looked_at=before.looked_at + len(held), found=before.found + found)


def _noted(request: Request, receipt: Receipt) -> Request:
    return replace(request, receipts={**request.receipts, SERVICE: receipt})
