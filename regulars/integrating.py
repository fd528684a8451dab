"""`regulars send` and `regulars tail`: for whoever connects a shop, one delivery out and all deliveries in."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from regulars.calling import LOCAL, Address, Key, ask

LOOK_SECONDS = 1.0
PAGE = 250
REMEMBERED = 10_000
"""Deliveries shown already that are still known as such; a page holds far fewer."""


class Platform(StrEnum):
    """Who would send it."""

    shopify = "shopify"
    woocommerce = "woocommerce"


def send(
    platform: Platform,
    topic: Annotated[str, typer.Argument(help="Such as orders/create, or order.created.")],
    *,
    file: Annotated[Path, typer.Option(help="The body; - is stdin.")],
    store: Annotated[str, typer.Option(help="The store's key.")],
    secret: Annotated[
        str, typer.Option(envvar="REGULARS_WEBHOOK_SECRET", help="One of the store's.", show_default=False)
    ],
    delivery_id: Annotated[str | None, typer.Option(help="The same one again is a duplicate.")] = None,
    url: Address = LOCAL,
) -> None:
    """Sends a webhook as the platform would, signed, and says what was answered."""
    import sys

    import httpx

    from libs.common.ids import new_id
    from services.ingest.signatures import sign

    try:
        body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        print(f"--file: {file} cannot be read: {error.strerror}", file=sys.stderr)
        raise typer.Exit(2) from None
    signature, id_ = sign(secret.encode(), body).decode(), delivery_id or new_id()
    if platform is Platform.shopify:
        headers = {"X-Shopify-Topic": topic, "X-Shopify-Hmac-Sha256": signature, "X-Shopify-Webhook-Id": id_}
    else:
        headers = {"X-WC-Webhook-Topic": topic, "X-WC-Webhook-Signature": signature, "X-WC-Webhook-Delivery-ID": id_}
    try:
        answer = httpx.post(
            f"{url}/webhooks/{platform.value}/{store}",
            content=body,
            headers={"Content-Type": "application/json", **headers},
            timeout=30,
        )
    except httpx.TransportError as error:
        print(f"nothing answers at {url} (--url, or REGULARS_URL): {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    print(answer.status_code, answer.headers.get("x-request-id", ""), answer.text)
    if not answer.is_success:
        raise typer.Exit(1)


def tail(
    *,
    store: Annotated[str | None, typer.Option(help="Only this store's.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only this topic.")] = None,
    lines: Annotated[int | None, typer.Option(min=1, help="End after so many.", show_default="never")] = None,
    key: Key = None,
    url: Address = LOCAL,
) -> None:
    """Shows deliveries as they come in and are read: a line for each, with what it turned out to be. Ends on Ctrl-C.

    Of more than 250 in a second the oldest are left out.
    """
    asked = {"store": store, "topic": topic, "limit": PAGE}
    # What was there before is not shown.
    shown = dict.fromkeys(one["id"] for one in _read(url, key, asked))
    left = lines
    while left is None or left > 0:
        for one in reversed([one for one in _read(url, key, asked) if one["id"] not in shown]):
            print(one["received_at"], one["topic"], one["delivery_id"], one["outcome"], one["object"] or one["reason"])
            shown[one["id"]] = None
            left = None if left is None else left - 1
            if left == 0:
                return
        for id_ in list(shown)[:-REMEMBERED]:
            del shown[id_]
        time.sleep(LOOK_SECONDS)


def _read(url: str, key: str | None, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The newest that are not pending any more."""
    page = ask("GET", url, key, "/v1/deliveries", params=asked)["data"]
    return [one for one in page if one["outcome"] != "pending"]
