"""`regulars replay`: has deliveries read again, and shows how far that has come."""

import time
from typing import Annotated, Any

import typer

from regulars.calling import LOCAL, Address, Key, ask

LOOK_SECONDS = 0.5
_COUNTED = ("observed", "parked", "ignored", "unreadable", "gone", "changed")


def replay(
    *,
    delivery: Annotated[str | None, typer.Option(help="Only this one, by its id in /v1/deliveries.")] = None,
    store: Annotated[str | None, typer.Option(help="A store's key; beside --delivery it may be left out.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only this topic, such as orders/create.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only what is observed, parked, ignored or dead.")] = None,
    since: Annotated[str | None, typer.Option(help="Received at this time or later (RFC 3339).")] = None,
    until: Annotated[str | None, typer.Option(help="Received before this time.", show_default="now")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would come of it.")] = False,
    key: Key = None,
    url: Address = LOCAL,
) -> None:
    """Has deliveries read again by today's rules: those of a --store, or one --delivery. Starts no message.

    Ctrl-C leaves it to the workers.
    """
    wanted = {
        "delivery": delivery,
        "store": store,
        "topic": topic,
        "outcome": outcome,
        "since": since,
        "until": until,
        "dry_run": dry_run,
    }
    asked = {name: value for name, value in wanted.items() if value is not None}
    standing = ask("POST", url, key, "/v1/deliveries/replays", json=asked)
    print("replay", standing["id"], "(a dry run: nothing is changed)" if dry_run else "")
    shown = ""
    while True:
        if (line := f"{standing['state']}: {standing['looked_at']} of {_total(standing)}") != shown:
            print(shown := line)
        if standing["state"] in {"done", "cancelled"}:
            break
        time.sleep(LOOK_SECONDS)
        standing = ask("GET", url, key, f"/v1/deliveries/replays/{standing['id']}")
    print(", ".join(f"{standing[name]} {name}" for name in _COUNTED))
    if standing["left_out"]:
        print(f"left out {standing['left_out']} of the dead: discarded, or waiting to be tried again as dead letters")
    for each in standing["reasons"]:
        print(f"{each['count']:>7} {each['reason']}")
    if standing["state"] == "cancelled":
        raise typer.Exit(1)


def _total(standing: dict[str, Any]) -> str:
    return "?" if standing["total"] is None else str(standing["total"])
