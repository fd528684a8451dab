"""The generated pages of `docs/`: contracts, AsyncAPI, OpenAPI, settings, KPIs, events, flows.

They are committed; `--check` says where they lag.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from libs.common.settings import settings_table
from regulars import contracts, openapi
from regulars.event_page import event_page
from regulars.flow_page import flow_page
from regulars.kpi_page import kpi_page
from regulars.parts import settings_classes


def pages() -> dict[str, str]:
    """Path below `docs/` -> what it should hold."""
    documents = {f"contracts/{topic}.json": schema for topic, schema in contracts.schemas().items()}
    documents["asyncapi.json"] = contracts.asyncapi()
    documents["openapi.json"] = openapi.document()
    texts = {path: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for path, document in documents.items()}
    texts["settings.md"] = settings_table(settings_classes())
    texts["kpis.md"] = kpi_page()
    texts["events.md"] = event_page()
    texts["flows.md"] = flow_page()
    return texts


def stale(folder: Path) -> Iterator[str]:
    """What must be done about the committed pages, in words: first what breaks readers, then what only lags."""
    yield from breaks(folder)
    for path, text in pages().items():
        page = folder / path
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            yield f"{page} is not up to date: make docs"


def breaks(folder: Path) -> Iterator[str]:
    """Changes since the committed contracts that would break who reads or writes by them."""
    for topic, schema in contracts.schemas().items():
        page = folder / "contracts" / f"{topic}.json"
        if page.is_file():
            yield from contracts.breaking(topic, json.loads(page.read_text(encoding="utf-8")), schema)


def write(folder: Path) -> None:
    """Writes every page anew."""
    for path, text in pages().items():
        page = folder / path
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
