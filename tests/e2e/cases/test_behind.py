"""The line is behind, and the clock is not: nobody is written to on the strength of what was true before."""

from datetime import timedelta

import pytest

from libs.common.clock import DrivenClock
from tests.conftest import START
from tests.e2e.cases.ground import Ground
from tests.e2e.cases.test_cases_17_to_25 import checkout
from tests.unit.ingest.payloads import shopify_order
from tests.waiting import eventually, pause

PERSON = {"id": 88, "email": "ada@example.com", "created_at": "2026-03-01T09:00:00Z"}


@pytest.mark.parametrize("away", ["ingest", "profiles", "messaging"])
@pytest.mark.parametrize("news", ["bought", "withdrew"])
async def test_what_was_accepted_in_time_is_known_in_time(
    ground: Ground, clock: DrivenClock, away: str, news: str
) -> None:
    store = await ground.store("shopify")
    began = f"{START:%Y-%m-%dT%H:%M:%SZ}"
    consent = {"state": "subscribed", "opt_in_level": None, "consent_updated_at": "2026-03-01T09:00:00Z"}
    await store.send("customers/create", PERSON | {"email_marketing_consent": consent, "updated_at": began})
    await store.send("checkouts/create", checkout(created_at=began, updated_at=began, customer=PERSON))
    await ground.line.advance(START + timedelta(minutes=44))
    async with ground.line.database(away).transaction() as tx:
        # Nothing gets on there, and everybody else can look.
        await tx.pg.execute("LOCK TABLE positions IN EXCLUSIVE MODE")
        at = f"{START + timedelta(minutes=44):%Y-%m-%dT%H:%M:%SZ}"
        if news == "bought":
            order = shopify_order(checkout_token="chk-1", created_at=at, processed_at=at, updated_at=at)
            assert await store.send("orders/create", order) == 200
        else:
            left = consent | {"state": "unsubscribed", "consent_updated_at": at}
            assert (
                await store.send("customers/update", PERSON | {"email_marketing_consent": left, "updated_at": at})
                == 200
            )
        clock.set(START + timedelta(minutes=46))

        async def due() -> bool:
            answer = (await ground.http.get("/v1/pipeline/messaging")).json()
            return bool(answer["pending"] == ["1 timers due"])

        await eventually(due)
        # Longer than timers wait between two looks.
        await pause(1.5)
        assert await due()
    await ground.line.drained()
    told = (await ground.get("/v1/messages"))["data"]
    assert [(message["state"], message["reason"]) for message in told] == (
        [] if news == "bought" else [("skipped", "no_consent")]
    )
