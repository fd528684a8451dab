"""`regulars replay`, `dead-letters`, `send` and `tail` against the API of a line that runs."""

import asyncio
import json
import os
import re
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libs.common.crypto import new_key
from libs.common.ids import new_id
from regulars import integrating
from regulars.cli import app
from tests.e2e.api import ADMIN_KEY
from tests.e2e.cases.ground import SECRET, Ground
from tests.proxy import proxied
from tests.unit.ingest.payloads import shopify_order, woocommerce_order
from tests.waiting import pause

MANY = "1000"


async def regulars(ground: Ground, *words: str, code: int = 0, key: bool = True, stdin: str | None = None) -> str:
    """What the command prints. `key`: whether one is given."""
    asked = [*words, *(["--key", ADMIN_KEY] if key else []), "--url", str(ground.http.base_url).rstrip("/")]
    told = await asyncio.to_thread(partial(CliRunner().invoke, app, asked, input=stdin))
    assert told.exit_code == code, told.output
    # The line runs in this process, and logs to the same place.
    return "".join(line for line in told.output.splitlines(keepends=True) if not line.startswith('{"'))


async def test_a_replay_is_shown_to_its_end(ground: Ground) -> None:
    store = await ground.store("shopify")
    await store.send("orders/create", shopify_order())
    await store.send("orders/create", shopify_order(id=2, currency="none"))
    before = await ground.get("/v1/orders")
    for words in (["--dry-run"], []):
        told = await regulars(ground, "replay", "--store", store.key, "--until", "2030-01-01T00:00:00Z", *words)
        assert re.search(r"^done: 2 of 2$", told, re.MULTILINE)
        assert "1 observed, 0 parked, 0 ignored, 1 unreadable, 0 gone, 0 changed" in told
        assert re.search(r"^ +1 currency: not an ISO 4217 code$", told, re.MULTILINE)
    assert await ground.get("/v1/orders") == before


async def test_a_replay_of_one_delivery_is_shown_to_its_end(ground: Ground) -> None:
    store = await ground.store("shopify")
    await store.send("orders/create", shopify_order())
    await store.send("orders/create", shopify_order(id=2))
    await ground.line.drained()
    before = await ground.get("/v1/orders")
    delivery = (await ground.get("/v1/deliveries"))["data"][0]["id"]
    for words in (["--dry-run"], []):
        told = await regulars(ground, "replay", "--delivery", delivery, *words)
        assert re.search(r"^done: 1 of 1$", told, re.MULTILINE)
        assert "1 observed, 0 parked, 0 ignored, 0 unreadable, 0 gone, 0 changed" in told
    assert await ground.get("/v1/orders") == before
    unknown = await regulars(ground, "replay", "--delivery", new_id(), code=1)
    assert "There is no such delivery. /delivery: Names no delivery." in unknown
    assert "/store: Name a store, or one delivery." in await regulars(ground, "replay", code=1)


async def test_a_replay_of_no_store_says_so(ground: Ground) -> None:
    assert "/store: There is no such store." in await regulars(ground, "replay", "--store", "st_none", code=1)


async def test_dead_letters_are_listed_shown_and_put_aside(ground: Ground) -> None:
    store = await ground.store("shopify")
    await store.send("orders/create", shopify_order(currency="none"))
    await ground.line.drained()
    line = await regulars(ground, "dead-letters", "list", "ingest")
    assert "currency: not an ISO 4217 code" in line
    letter = line.split()[0]
    assert '"delivery.received"' in await regulars(ground, "dead-letters", "show", "ingest", letter)
    assert "1 to be tried again" in await regulars(ground, "dead-letters", "replay", "ingest", letter)
    await ground.line.drained()
    assert "discarded" in await regulars(ground, "dead-letters", "discard", "ingest", letter)
    assert await regulars(ground, "dead-letters", "list", "ingest") == ""
    told = await regulars(ground, "replay", "--store", store.key, "--until", "2030-01-01T00:00:00Z")
    assert re.search(r"^done: 0 of 0$", told, re.MULTILINE)
    assert re.search(r"^left out 1 of the dead: discarded", told, re.MULTILINE)


async def test_a_webhook_is_sent_as_the_platform_would(ground: Ground, tmp_path: Path) -> None:
    body = tmp_path / "order.json"
    for platform, topic, order in (
        ("shopify", "orders/create", shopify_order()),
        ("woocommerce", "order.created", woocommerce_order()),
    ):
        store = await ground.store(platform)
        body.write_text(json.dumps(order))
        words = ["send", platform, topic, "--file", str(body), "--store", store.key]
        assert (await regulars(ground, *words, "--secret", SECRET, key=False)).startswith("200 ")
        refused = await regulars(ground, *words, "--secret", "another one", key=False, code=1)
        # No delivery has the id of what was refused.
        assert refused.startswith('401 {"type"')
        assert [outcome for _, outcome, _ in await store.outcomes()] == ["observed"]
        assert (await store.counts())["refused"] == {"bad_signature": 1}


@pytest.mark.parametrize("page", [250, 1])
async def test_deliveries_are_shown_as_they_come(ground: Ground, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(integrating, "PAGE", page)
    store = await ground.store("shopify")
    await store.send("orders/create", shopify_order(id=1))
    await ground.line.drained()
    tailing = asyncio.create_task(regulars(ground, "tail", "--store", store.key, "--lines", "2"))
    # It shows what comes once it has looked for the first time.
    sent = 0
    while not tailing.done():
        sent += 1
        await store.send("orders/create", shopify_order(id=100 + sent), id_=f"tail-{sent}")
        await pause(0.3)
    shown = [line.split() for line in (await tailing).splitlines()]
    assert [(line[1], line[3]) for line in shown] == [("orders/create", "observed")] * 2
    there = [one["id"] for one in (await ground.get(f"/v1/deliveries?store={store.key}&limit=250"))["data"]]
    assert there.index(shown[0][2]) == there.index(shown[1][2]) + 1 < len(there) - 1


async def test_a_tail_of_no_store_ends(ground: Ground) -> None:
    assert "There is no such store." in await regulars(ground, "tail", "--store", "st_none", code=1)


async def test_a_tail_outlives_the_api_and_names_what_was_sent(ground: Ground, tmp_path: Path) -> None:
    store = await ground.store("shopify")
    (tmp_path / "order.json").write_text(json.dumps(shopify_order()))
    words = ["send", "shopify", "orders/create", "--file", str(tmp_path / "order.json"), "--store", store.key]

    async def sent() -> str:
        told = (await regulars(ground, *words, "--secret", SECRET, key=False)).split()[1]
        await ground.line.drained()
        return told

    at = ground.http.base_url
    async with asyncio.timeout(60), proxied(at.host, at.port or 80) as proxy:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "regulars", "tail", "--lines", MANY, "--key", ADMIN_KEY,
            "--url", f"http://127.0.0.1:{proxy.port}", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            ids, first = [await sent()], asyncio.create_task(process.stdout.readline())
            while not first.done():
                ids.append(await sent())
            began = ids.index((await first).decode().split()[2])
            proxy.cut()
            assert "trying again" in (await process.stderr.readline()).decode()
            ids += [await sent(), await sent()]
            await proxy.open()
            seen = [(await process.stdout.readline()).decode().split()[2] for _ in ids[began + 1 :]]
            assert seen == ids[began + 1 :]
            assert await process.stderr.readline() == b"it answers again\n"
        finally:
            process.kill()
            await process.wait()


async def test_a_body_from_stdin(ground: Ground) -> None:
    store = await ground.store("shopify")
    words = ["send", "shopify", "orders/create", "--store", store.key, "--secret", SECRET, "--file", "-"]
    assert (await regulars(ground, *words, key=False, stdin=json.dumps(shopify_order()))).startswith("200 ")
    assert [outcome for _, outcome, _ in await store.outcomes()] == ["observed"]


async def test_the_key_may_come_from_the_environment(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGULARS_KEY", raising=False)
    store = await ground.store("shopify")
    await store.send("orders/create", shopify_order(currency="none"))
    await ground.line.drained()
    letter = (await regulars(ground, "dead-letters", "list", "ingest", key=False)).split()[0]
    for word in ("show", "replay", "discard"):
        await regulars(ground, "dead-letters", word, "ingest", letter, key=False)
    monkeypatch.delenv("REGULARS_ADMIN_KEY")
    assert "which API key?" in await regulars(ground, "dead-letters", "list", "ingest", key=False, code=2)


async def test_the_key_that_seals_is_rotated(ground: Ground, database_url: str, tmp_path: Path) -> None:
    async def rotate(data_dir: Path, **settings: str) -> tuple[int | None, str]:
        words = ["keys", "rotate", "--database-url", database_url, "--data-dir", str(data_dir)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "regulars", *words, env=os.environ | settings,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        told, _ = await process.communicate()
        return process.returncode, told.decode()

    store = await ground.store("shopify")
    for _ in range(2):
        assert await rotate(tmp_path) == (0, "sealed anew: the secrets of 1 stores, the credentials of 0\n")
    assert (tmp_path / "secret.key").read_text().count(",") == 2
    assert await store.send("orders/create", shopify_order()) == 200
    # Keys of the settings are the operator's own: none is made, and what the first is not of is sealed anew.
    held = (tmp_path / "secret.key").read_text()
    given = {"REGULARS_SECRET_KEY": f"{new_key()},{held}"}
    assert await rotate(tmp_path, **given) == (0, "sealed anew: the secrets of 1 stores, the credentials of 0\n")
    assert await rotate(tmp_path, **given) == (0, "sealed anew: the secrets of 0 stores, the credentials of 0\n")
    assert (tmp_path / "secret.key").read_text() == held
    elsewhere = tmp_path / "elsewhere"
    assert await rotate(elsewhere) == (1, f"there is no secret.key in {elsewhere}: name yours with --data-dir\n")
    # What holds no key is told in a line, and is left as it is for whoever has to mend it.
    elsewhere.mkdir()
    (elsewhere / "secret.key").write_bytes(b"\xff" + held.encode())
    told = f"{elsewhere}/secret.key: must be 32 bytes in base64, and is no text\n"
    assert await rotate(elsewhere) == (1, told)
    assert (elsewhere / "secret.key").read_bytes() == b"\xff" + held.encode()


async def test_what_no_header_carries_is_told_and_never_shown(ground: Ground, tmp_path: Path) -> None:
    url = str(ground.http.base_url).rstrip("/")

    async def invoked(*words: str) -> tuple[int, str]:
        told = await asyncio.to_thread(partial(CliRunner().invoke, app, [*words, "--url", url]))
        return told.exit_code, told.output

    code, told = await invoked("dead-letters", "list", "ingest", "--key", f" {ADMIN_KEY}\r\n")
    assert code == 0, told
    for wrong in (f"{ADMIN_KEY[:9]}\n{ADMIN_KEY[9:]}", "ключ"):
        code, told = await invoked("dead-letters", "list", "ingest", "--key", wrong)
        assert (code, "--key: this must be printable ASCII" in told, wrong in told) == (2, True, False)
    store = await ground.store("shopify")
    (body := tmp_path / "order.json").write_text("{}")
    sent = ("send", "shopify", "orders/create", "--file", str(body), "--store", store.key, "--secret", f"{SECRET}\n")
    code, told = await invoked(*sent)
    assert code == 0, told
    for name, words in (
        ("topic", [sent[0], sent[1], "größe", *sent[3:]]),
        ("--delivery-id", [*sent, "--delivery-id", "é"]),
    ):
        code, told = await invoked(*words)
        assert (code, f"{name}: this must be printable ASCII" in told) == (2, True)
