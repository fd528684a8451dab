"""The corpus of foreign payloads: beside the checkout, or where REGULARS_CORPUS says; no part of the product."""

import csv
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from libs.common.contracts.journal import Delivery
from services.ingest.normalise import Ignored, Observations, Parked, StoreFacts, Uninstalled, Unreadable, normalise

FOLDER = Path(os.environ.get("REGULARS_CORPUS") or Path(__file__).parents[2] / ".." / "shared" / "corpus")
RECEIVED_AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
STORE = StoreFacts(key="st_corpus", domain="corpus.myshopify.com", currency="USD", timezone="America/New_York")


class Result(Struct, frozen=True):
    """What one payload turned out to be."""

    file: str
    topic: str
    outcome: str
    """observed, parked, ignored, dead."""
    reason: str
    """For observed: the events' types."""


def present() -> bool:
    """Whether there is a corpus here."""
    return (FOLDER / "INDEX.tsv").is_file()


def deliveries() -> Iterator[tuple[str, Delivery]]:
    """Every payload with the headers that were recorded for it: (file, delivery)."""
    with (FOLDER / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
        rows = list(csv.DictReader(index, delimiter="\t"))
    for row in rows:
        recorded = row["headers_file"]
        headers = json.loads((FOLDER / recorded).read_text(encoding="utf-8")) if recorded else {}
        yield (
            row["file"],
            Delivery(
                store=STORE.key,
                platform=row["platform"],
                topic=row["topic"],
                delivery_id=row["file"],
                headers={name.lower(): value for name, value in headers.items()},
                body=(FOLDER / row["file"]).read_bytes(),
            ),
        )


def read(file: str, delivery: Delivery) -> tuple[Result, Observations | None]:
    """One payload through its normaliser."""
    try:
        found = normalise(delivery, store=_store_of(delivery), received_at=RECEIVED_AT, position=1, delivery_ref=file)
    except Unreadable as error:
        return Result(file, delivery.topic, "dead", error.reason), None
    match found:
        case Observations(observations):
            types = ", ".join(each.type for each in observations)
            return Result(file, delivery.topic, "observed", types), found
        case Parked(reason):
            return Result(file, delivery.topic, "parked", reason), None
        case Ignored(reason) | Uninstalled(reason):
            return Result(file, delivery.topic, "ignored", reason), None


def _store_of(delivery: Delivery) -> StoreFacts:
    """Each payload is its own shop's: what it demands of a shop, it demands of the one that it names."""
    try:
        body = json.loads(delivery.body)
    except ValueError:
        return STORE
    named = (body.get("shop_domain") or body.get("myshopify_domain")) if isinstance(body, dict) else None
    return replace(STORE, domain=named.lower()) if isinstance(named, str) else STORE
