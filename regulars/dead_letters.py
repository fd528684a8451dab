"""`regulars dead-letters`: what fell out of the line, and the way back in. Speaks to a running installation's API."""

from typing import Annotated, Any

import typer

from regulars.calling import LOCAL, Address, Key, ask

app = typer.Typer(help="Events that could not be processed.", no_args_is_help=True)

Service = Annotated[str, typer.Argument(help="ingest, profiles, metrics or messaging.")]
Reason = Annotated[str | None, typer.Option(help="Beginning of the reason.")]
Since = Annotated[str | None, typer.Option(help="Failed at this time or later (RFC 3339).")]


@app.command("list")
def list_letters(
    service: Service,
    *,
    key: Key = None,
    url: Address = LOCAL,
    reason: Reason = None,
    since: Since = None,
    state: Annotated[str | None, typer.Option(help="dead, replay, replayed or discarded.")] = "dead",
) -> None:
    """One line for each: id, when, event, reason."""
    asked = {"reason": reason, "since": since, "state": state, "limit": "250", "cursor": None}
    while True:
        page = ask("GET", url, key, f"/v1/dead-letters/{service}", params=asked)
        for letter in page["data"]:
            print(letter["id"], letter["failed_at"], letter["event_type"], letter["state"], letter["reason"])
        if page["next"] is None:
            return
        asked["cursor"] = page["next"]


@app.command()
def show(service: Service, letter: str, *, key: Key = None, url: Address = LOCAL) -> None:
    """Everything that is known of one, with its traceback and data."""
    _print(ask("GET", url, key, f"/v1/dead-letters/{service}/{letter}"))


@app.command()
def replay(
    service: Service,
    letters: Annotated[list[str] | None, typer.Argument(help="Ids; none: all that the options choose.")] = None,
    *,
    key: Key = None,
    url: Address = LOCAL,
    reason: Reason = None,
    since: Since = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be tried again.")] = False,
) -> None:
    """Has them tried again by the consumer that gave them up."""
    if dry_run and not letters:
        list_letters(service, key=key, url=url, reason=reason, since=since)
        return
    chosen = {name: value for name, value in (("ids", letters), ("reason", reason), ("since", since)) if value}
    if dry_run:
        _print(chosen)
        return
    print(ask("POST", url, key, f"/v1/dead-letters/{service}/replay", json=chosen)["marked"], "to be tried again")


@app.command()
def discard(service: Service, letters: list[str], *, key: Key = None, url: Address = LOCAL) -> None:
    """Puts them aside for good; they stay to be looked at."""
    for letter in letters:
        ask("POST", url, key, f"/v1/dead-letters/{service}/{letter}/discard")
        print(letter, "discarded")


def _print(document: Any) -> None:
    import json

    print(json.dumps(document, indent=2, ensure_ascii=False))
