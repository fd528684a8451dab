"""What is wrong with the settings of this environment, by the names that an operator sets."""

import os
from collections.abc import Mapping

from pydantic import ValidationError

from libs.common.settings import PREFIX, faults_of
from regulars.parts import settings_classes

OF_COMMANDS = frozenset(
    {"URL", "KEY", "WEBHOOK_SECRET", "CORPUS", "TEST_DATABASE_URL"}
    | {"CONSUMER_KEY", "CONSUMER_SECRET", "ACCESS_TOKEN", "CLIENT_ID", "CLIENT_SECRET"}
)
"""Read by commands and tests, not by a service."""


def wrong_settings() -> dict[str, str]:
    """Each bad setting and what is wrong with it. A file that a setting names and nobody can read is one, too."""
    wrong: dict[str, str] = {}
    for settings in settings_classes():
        try:
            settings()
        except ValidationError as error:
            wrong |= faults_of(error)
        except OSError as error:
            name = next((k for k, v in os.environ.items() if k.startswith(PREFIX) and v == error.filename), PREFIX)
            wrong[name] = f"cannot be read: {error.strerror}"
    return wrong


def unknown_settings(environment: Mapping[str, str]) -> list[str]:
    """Variables with our prefix that nothing reads: misspelt, or of another version."""
    names = {name.upper() for settings in settings_classes() for name in settings.model_fields}
    known = {f"{PREFIX}{name}{ending}" for name in names for ending in ("", "_FILE")}
    known |= {f"{PREFIX}{name}" for name in OF_COMMANDS}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
