"""Money and times of everything that the corpus' payloads are observed as, as it was checked by hand.

    python -m tests.contract.corpus_golden

writes `corpus_golden.json` anew: a difference in it is to be checked against the payload before it is committed.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from tests.contract.corpus import deliveries, read

PATH = Path(__file__).with_name("corpus_golden.json")
KEPT = {
    *("currency", "gross", "discounts", "shipping", "taxes", "total", "price", "quantity", "returns", "cost"),
    *("updated_at", "placed_at", "created_at", "cancelled_at", "fulfilled_at", "started_at", "completed_at"),
    *("removed_at", "paid_at", "at"),
}
"""Nothing that says who somebody was, and nothing that would copy the payload."""


def golden() -> dict[str, list[dict[str, Any]]]:
    """File -> its observations; amounts in minor units."""
    found = {}
    for file, delivery in deliveries():
        _, observed = read(file, delivery)
        if observed is not None:
            found[file] = [
                {"type": each.type, **_kept(msgspec.to_builtins(each.observed))} for each in observed.observations
            ]
    return found


def _kept(told: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in told.items():
        if isinstance(value, dict):
            below: Any = _kept(value)
        elif isinstance(value, list):
            below = [part for part in (_kept(each) for each in value if isinstance(each, dict)) if part]
        else:
            below = value if name in KEPT else None
        if below is not None and below not in ({}, []):
            kept[name] = below
    return kept


if __name__ == "__main__":
    PATH.write_text(json.dumps(golden(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
