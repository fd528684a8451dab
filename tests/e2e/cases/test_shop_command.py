"""`regulars shop`: what it says to do is done, and all that it says is there arrives."""

import asyncio
import json
import os
import re
import signal
import sys
from typing import Any

import pytest

from libs.common.clock import DrivenClock, SystemClock
from tests.e2e.cases.ground import Ground
from tests.e2e.cases.test_commands import regulars
from tests.waiting import eventually


@pytest.mark.parametrize("platform", ["shopify", "woocommerce"])
async def test_its_own_instructions_are_followed(
    ground_beside_shops: Ground, clock: DrivenClock, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = ground_beside_shops
    clock.set(SystemClock().now())
    words = ["shop", platform, "--port", "0", "--days", "10", "--customers", "20"]
    shop = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "regulars", *words, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    try:
        assert shop.stdout is not None
        told = ""
        while not told.rstrip().endswith("GET /v1/backfills"):
            line = await shop.stdout.readline()
            assert line, told
            told += line.decode()
        [registered] = re.findall(r"-d '(\{.*\})'", told)
        store = (await ground.http.post("/v1/stores", json=json.loads(registered))).raise_for_status().json()
        for name, value in re.findall(r"(REGULARS_\w+)=(\S+)", told):
            monkeypatch.setenv(name, value)
        [address] = re.findall(r"--shop-url (\S+)", told)
        words = ["connect", platform, "--store", store["store_key"], "--shop-url", address]
        seen = await regulars(ground, *words, code=1)  # nothing listens at its public address
        assert "credentials: good" in seen.splitlines()[0]
        backfill = (await ground.http.post("/v1/backfills", json={"store": store["store_key"]})).raise_for_status()

        found: dict[str, Any] = {}

        async def done() -> bool:
            found.update(await ground.get(f"/v1/backfills/{backfill.json()['id']}"))
            return str(found["state"]) == "done"

        await eventually(done)
        counted = {kind: int(count) for count, kind in re.findall(r"(\d+) (\w+)[,.]", told)}
        assert counted["orders"] > 0
        assert (found["fetched"], found["broken"]) == (sum(counted.values()), 0)
    finally:
        shop.send_signal(signal.SIGINT)
        code = await shop.wait()
    assert code == 0
