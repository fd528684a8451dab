"""`regulars connect` against the API of a line that runs and the simulated shop's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from libs.common.clock import DrivenClock
from regulars.shop.woocommerce_api import KEY, WooCommerceApi
from regulars.shop.woocommerce_api import SECRET as CONSUMER_SECRET
from tests.e2e.cases.conftest import at_work
from tests.e2e.cases.ground import Ground
from tests.e2e.cases.test_commands import regulars
from tests.integration.ingest.shop_api import serving


@pytest_asyncio.fixture
async def ground(
    database_url: str, clock: DrivenClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    """Nothing listens at its public address."""
    monkeypatch.setenv("REGULARS_FETCH_PRIVATE_ADDRESSES", "true")
    monkeypatch.setenv("REGULARS_FETCH_CONCURRENCY", "0")
    monkeypatch.setenv("REGULARS_FETCH_RATE", "10000")
    monkeypatch.setenv("REGULARS_PUBLIC_URL", "http://127.0.0.1:1")
    async with at_work(database_url, clock, tmp_path, monkeypatch) as running:
        yield running


async def test_a_shop_is_connected_and_what_is_missing_told(ground: Ground) -> None:
    shop = WooCommerceApi()
    shop.webhook("order.created", "https://erp.example/hook")
    async with serving(shop) as domain:
        store = await ground.store("woocommerce", domain=domain)
        words = ["connect", "woocommerce", "--store", store.key]
        assert "This store has no credentials." in await regulars(ground, *words, code=1)
        given = ["--consumer-key", KEY, "--consumer-secret", CONSUMER_SECRET, "--shop-url", f"http://{domain}"]
        told = await regulars(ground, *words, *given, code=1)
        assert CONSUMER_SECRET not in told
        lines = told.splitlines()
        assert lines[0] == f"http://127.0.0.1:1/webhooks/woocommerce/{store.key}; credentials: good"
        assert "order.created active made" in lines
        assert "left alone: 1 webhooks to other addresses" in lines
        assert lines[-2].startswith("test: did not arrive: http://127.0.0.1:1: nothing answers")
        assert lines[-1] == "not complete"
        elsewhere = await regulars(ground, *words, *given[:-1], "https://elsewhere.example", code=1)
        assert f"--shop-url: This is not an address on {domain}." in elsewhere
        refused = await regulars(ground, *words, *given[:3], "cs_of_nobody_at_all", code=1)
        assert "the shop refuses these credentials (401). Nothing was changed." in refused
        away = await regulars(ground, *words, *given[:-1], f"http://{domain}/nothing/there", code=1)
        assert "Nothing was changed." in away
        kept = await ground.get(f"/v1/stores/{store.key}/credentials")
        assert (kept["state"], kept["url"]) == ("good", f"http://{domain}")
        assert "credentials: good" in await regulars(ground, *words, *given[:4], code=1)
        asked = await regulars(ground, *words, *given[:3], "cs_of_nobody_at_all", "--dry-run")
        assert "as handed over before" in asked
        seen = (await regulars(ground, *words, "--dry-run")).splitlines()
        assert ("order.created active" in seen, seen[-1]) == (True, "complete")
        del shop.webhooks[2]
        seen = (await regulars(ground, *words, "--dry-run", code=1)).splitlines()
        assert "order.created gone" in seen
        assert "is a store of woocommerce, not of shopify" in await regulars(
            ground, "connect", "shopify", "--store", store.key, code=2
        )


async def test_only_what_the_platform_takes_comes_from_the_environment(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = {
        "woocommerce": {"CONSUMER_KEY": KEY, "CONSUMER_SECRET": CONSUMER_SECRET},
        "shopify": {"CLIENT_ID": "of_the_app", "CLIENT_SECRET": "of_the_app"},
    }
    for name, secret in (each for given in of.values() for each in given.items()):
        monkeypatch.setenv(f"REGULARS_{name}", secret)
    for platform in of:
        store = await ground.store(platform, domain="127.0.0.1:1")
        words = ["connect", platform, "--store", store.key]
        # What was given is good to ask the shop with: what fails comes after that.
        told = await regulars(ground, *words, code=1)
        assert ("https://127.0.0.1:1: " in told, "Nothing was changed." in told) == (True, True)
        other = "--client-id" if platform == "woocommerce" else "--consumer-key"
        asked = await regulars(ground, *words, other, "on the command line", code=1)
        assert f"{other}: Stores of {platform} have no such thing." in asked
