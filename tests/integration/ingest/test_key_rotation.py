"""The key that seals: rotated while webhooks come and stores change."""

import asyncio
import base64
from collections import Counter

import pytest

from libs.common.crypto import KEY_FILE, BadSeal, Keyring, add_key, new_key
from libs.common.settings import CommonSettings
from services.ingest import credentials
from services.ingest import store as records
from services.ingest.resealing import reseal
from tests.integration.ingest.ground import SECRET, Ground
from tests.integration.ingest.shop_api import CREDENTIALS

NEW = "another secret, longer"


async def sealed(ground: Ground) -> list[bytes]:
    async with ground.database.reading() as tx:
        rows = await tx.pg.fetch("SELECT unnest(secrets) AS sealed FROM stores UNION SELECT sealed FROM credentials")
    return [row["sealed"] for row in rows]


async def test_no_good_delivery_is_refused_while_the_key_rotates(ground: Ground) -> None:
    stores = [await ground.register(domain=f"{n}.example") for n in range(5)]
    answers, rotated = Counter[int](), asyncio.Event()

    async def send() -> None:
        n = 0
        while not rotated.is_set():
            n += 1
            answer = await ground.shopify(stores[n % len(stores)], {"id": n}, id_=f"d-{n}", secret=SECRET)
            answers[answer.status_code] += 1

    sending = asyncio.create_task(send())
    for _ in range(10):
        # As `regulars keys rotate` does it, in a process of its own.
        add_key(ground.settings.data_dir)
        assert await reseal(ground.database, Keyring.from_settings(ground.settings)) == (len(stores), 0)
        answer = await ground.http.patch(f"/v1/stores/{stores[0]}", json={"secrets": [SECRET, NEW]})
        assert answer.status_code == 200
        # Everybody reads anew what the new key has sealed.
        for store in stores:
            await ground.app.state.ingest.registry.reload(store)
    rotated.set()
    await sending
    assert answers[200] > 10
    assert set(answers) == {200}


async def test_credentials_are_sealed_anew_and_nothing_is_left_to_the_old_key(ground: Ground) -> None:
    store = await ground.register(platform="woocommerce")
    answer = await ground.http.put(f"/v1/stores/{store}/credentials", json=CREDENTIALS)
    assert answer.status_code == 200, answer.text
    old = Keyring.from_settings(ground.settings)
    add_key(ground.settings.data_dir)
    keyring = Keyring.from_settings(ground.settings)
    assert await reseal(ground.database, keyring) == (1, 1)
    assert await reseal(ground.database, keyring) == (0, 0)
    path = ground.settings.data_dir / KEY_FILE
    newest = path.read_text().partition(",")[0]
    alone = Keyring([base64.b64decode(newest)])
    assert all(alone.is_current(each) for each in await sealed(ground))
    async with ground.database.reading() as tx:
        held = await credentials.held(tx, "default", store)
        [row] = await records.sealed_stores(tx, [store])
    assert held is not None
    assert alone.open(held.sealed, credentials.context("default", store))
    assert alone.open(row.secrets[0].secret, records.context("default", store)) == SECRET.encode()
    # Who runs with the key of before finds the new one by what it has sealed.
    assert old.open(held.sealed, credentials.context("default", store))


async def test_what_another_key_sealed_stays_as_it_is(ground: Ground) -> None:
    await ground.register()
    before = await sealed(ground)
    with pytest.raises(BadSeal):
        await reseal(ground.database, Keyring.from_settings(CommonSettings(secret_key=new_key())))
    assert await sealed(ground) == before
