"""Which settings the chart's `settings` may name. Run as a program (make docs) it writes them into the schema."""

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from libs.common.settings import PREFIX
from regulars.parts import settings_classes

SCHEMA = Path(__file__).parents[3] / "deploy/helm/regulars/values.schema.json"
NOT_SHOWN = {"database_url"}
"""A secret as well, since it holds a password."""


def names() -> list[str]:
    """Every setting that is no secret: those come as files."""
    return sorted(
        f"{PREFIX}{name}".upper()
        for name in {
            name
            for settings in settings_classes()
            for name, field in settings.model_fields.items()
            if SecretStr not in (field.annotation, *getattr(field.annotation, "__args__", ()))
        }
        - NOT_SHOWN
    )


def schema() -> dict[str, Any]:
    """As it should be."""
    document: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    document["properties"]["settings"]["propertyNames"] = {"enum": names()}
    return document


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
