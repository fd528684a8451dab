"""`regulars send` and `regulars tail`: for whoever connects a shop, one delivery out and all deliveries in."""

import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from regulars.calling import LOCAL, Address, Away, Key, answered, ask, in_a_header

DELIVERIES = "/v1/deliveries"
LOOK_SECONDS = 1.0
PAGE = 250
REMEMBERED = 10_000
"""Deliveries shown already that are still known as such; the pages of one look hold no more."""
LONGEST_PAUSE = 8.0
"""Seconds between two tries to reach an API that is away; the first come sooner."""


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
    delivery_id: Annotated[
        str | None, typer.Option(help="The same delivery again, with this id, is a duplicate: 200, and not kept.")
    ] = None,
    url: Address = LOCAL,
) -> None:
    """Sends a webhook as the platform would, signed, and says what was answered: status, the delivery's id, body.

    What is refused is no delivery, and has no id. A duplicate is answered as the first one was, with an id that no
    delivery has.
    """
    import httpx

    from libs.common.ids import new_id
    from services.ingest.headers import signed
    from services.ingest.signatures import sign

    try:
        body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        print(f"--file: {file} cannot be read: {error.strerror}", file=sys.stderr)
        raise typer.Exit(2) from None
    signature = sign(secret.strip().encode(), body).decode()
    id_ = in_a_header(delivery_id, "--delivery-id") if delivery_id is not None else new_id()
    try:
        answer = httpx.post(
            f"{url.strip().rstrip('/')}/webhooks/{platform.value}/{store}",
            content=body,
            headers=signed(platform.value, in_a_header(topic, "topic"), id_, signature),
            timeout=30,
        )
    except httpx.InvalidURL as error:
        print(f"--store, --url, or REGULARS_URL: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    except httpx.TransportError as error:
        print(f"nothing answers at {url} (--url, or REGULARS_URL): {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    if not answer.is_success:
        print(answer.status_code, answer.text)
        raise typer.Exit(1)
    print(answer.status_code, answer.headers.get("x-request-id", ""), answer.text)


def tail(
    *,
    store: Annotated[str | None, typer.Option(help="Only this store's.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only this topic.")] = None,
    lines: Annotated[int | None, typer.Option(min=1, help="End after so many.", show_default="never")] = None,
    key: Key = None,
    url: Address = LOCAL,
) -> None:
    """Shows deliveries as they come in and are read: a line for each, with what it turned out to be. Ends on Ctrl-C.

    A line has the delivery's id, as `send` prints it: GET /v1/deliveries/{id} has all of it. What was refused, and
    duplicates, are not shown: GET /v1/deliveries/counts has how many. When the API goes away this waits, and goes on
    from where it was. Of more than 10,000 at once the oldest are left out.
    """
    asked = {"store": store, "topic": topic, "limit": PAGE}
    # Whether each has been dealt with. What was there before is not shown, unless it is still to be read.
    known = {one["id"]: _is_read(one) for one in ask("GET", url, key, DELIVERIES, params=asked)["data"]}
    left = lines
    while left is None or left > 0:
        for one in reversed(_news(url, key, asked, known)):
            known[one["id"]] = _is_read(one)
            if not known[one["id"]]:
                continue
            print(
                one["received_at"], one["topic"], one["id"], one["outcome"], one["object"] or one["reason"], flush=True
            )
            left = None if left is None else left - 1
            if left == 0:
                return
        for id_ in list(known)[:-REMEMBERED]:
            del known[id_]
        time.sleep(LOOK_SECONDS)


def _news(url: str, key: str | None, asked: dict[str, Any], known: Mapping[str, bool]) -> list[dict[str, Any]]:
    """What is not dealt with, newest first: back to a page that has one of `known`, or to the beginning."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = _patiently(url, key, asked | {"cursor": cursor})
        found += [one for one in page["data"] if not known.get(one["id"])]
        cursor = page["next"]
        if cursor is None or len(found) >= REMEMBERED or any(one["id"] in known for one in page["data"]):
            return found[:REMEMBERED]


def _patiently(url: str, key: str | None, asked: dict[str, Any]) -> Any:
    """A page, however long the API is away: of that one line tells, and one of its return."""
    pause = LOOK_SECONDS / 4
    away = False
    while True:
        try:
            page = answered("GET", url, key, DELIVERIES, params=asked)
        except Away as error:
            if not away:
                print(f"{error}; trying again", file=sys.stderr)
            away = True
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if away:
                print("it answers again", file=sys.stderr)
            return page


def _is_read(delivery: dict[str, Any]) -> bool:
    return bool(delivery["outcome"] != "pending")
