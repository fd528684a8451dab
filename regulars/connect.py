"""`regulars connect`: has a shop send its webhooks here, and says what is there, what was made and what is missing."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from regulars.calling import LOCAL, Address, Key, ask
from regulars.integrating import Platform

_TAKES = {
    Platform.woocommerce: ("consumer_key", "consumer_secret"),
    Platform.shopify: ("access_token", "client_id", "client_secret"),
}
_SECRETS = tuple(name for names in _TAKES.values() for name in names)
_OPTIONS = {"/url": "--shop-url", **{f"/{name}": f"--{name.replace('_', '-')}" for name in _SECRETS}}
"""What the API finds fault with, as it is called here."""


def _secret(name: str, help_: str) -> Any:
    return typer.Option(
        f"--{name}", envvar=f"REGULARS_{name.replace('-', '_').upper()}", help=help_, show_default=False
    )


def connect(
    ctx: typer.Context,
    platform: Platform,
    *,
    store: Annotated[str, typer.Option(help="The store's key.")],
    consumer_key: Annotated[str | None, _secret("consumer-key", "WooCommerce: ck_…, Read/Write.")] = None,
    consumer_secret: Annotated[str | None, _secret("consumer-secret", "WooCommerce: cs_…")] = None,
    access_token: Annotated[str | None, _secret("access-token", "Shopify: shpat_…")] = None,
    client_id: Annotated[str | None, _secret("client-id", "Shopify: of an app without a token for good.")] = None,
    client_secret: Annotated[str | None, _secret("client-secret", "Shopify: of the same app.")] = None,
    shop_url: Annotated[
        str | None,
        typer.Option(
            help="Where the shop's API is, on the store's domain.", show_default="as before, or https://, domain"
        ),
    ] = None,
    topic: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look, with credentials handed over before.")] = False,
    key: Key = None,
    url: Address = LOCAL,
) -> None:
    """Connects a store: hands over credentials, if any are given, has webhooks made and mended, and tries the way.

    Again it keeps what is there. Ends with code 1 when something is missing.
    """
    known = ask("GET", url, key, f"/v1/stores/{store}")
    if known["platform"] != platform.value:
        print(f"{store} is a store of {known['platform']}, not of {platform.value}", file=sys.stderr)
        raise typer.Exit(2)
    given = {
        "consumer_key": consumer_key,
        "consumer_secret": consumer_secret,
        "access_token": access_token,
        "client_id": client_id,
        "client_secret": client_secret,
    }
    credentials = _meant(ctx, platform, given)
    if dry_run and (shop_url or topic):
        print("--dry-run looks at all topics, where the shop was before: no --shop-url, no --topic", file=sys.stderr)
        raise typer.Exit(2)
    if shop_url and not credentials:
        print("--shop-url: this is where credentials open the shop; give them, too", file=sys.stderr)
        raise typer.Exit(2)
    if credentials and dry_run:
        print("--dry-run: looks with the store's credentials as handed over before, not with these", file=sys.stderr)
    elif credentials:
        at = {"url": shop_url} if shop_url else {}
        # What the shop refuses must not end what it took until now.
        checked = {"check": True}
        ask("PUT", url, key, f"/v1/stores/{store}/credentials", _OPTIONS, json=credentials | at, params=checked)
    path = f"/v1/stores/{store}/connection"
    found = ask("GET", url, key, path) if dry_run else ask("POST", url, key, path, json={"topics": topic or None})
    _show(found)
    if not found["complete"]:
        raise typer.Exit(1)


def _meant(ctx: typer.Context, platform: Platform, given: Mapping[str, str | None]) -> dict[str, str]:
    """What was given, less what the environment has for shops of another platform."""
    found = {}
    for name, secret in given.items():
        source = ctx.get_parameter_source(name)
        typed = source is not None and source.name == "COMMANDLINE"
        if secret and (typed or name in _TAKES[platform]):
            found[name] = secret
    return found


def _show(found: dict[str, Any]) -> None:
    print(f"{found['webhook_url']}; credentials: {found['credentials']['state']}")
    for each in found["subscriptions"]:
        told = [each["topic"], each["state"], each["done"], each["reason"]]
        print(*(word for word in told if word is not None))
    if found["others"]:
        print(f"left alone: {found['others']} webhooks to other addresses")
    if (test := found["test"]) is not None:
        print("test: arrived" if test["arrived"] else f"test: did not arrive: {test['reason']}")
    for note in found["notes"]:
        print(f"note: {note}")
    print("complete" if found["complete"] else "not complete")
