"""What is wrong with the settings of this environment, by the names that an operator sets.

A process of its own in `regulars run`, before anything is started or made.
"""

import os
from collections.abc import Mapping

from pydantic import ValidationError

from libs.common.crypto import KEY_FILE, BadKeyFile, Keyring
from libs.common.settings import PREFIX, CommonSettings, faults_of
from regulars.parts import end_with, fault_of_key_file, settings_classes

OF_COMMANDS = frozenset(
    {"URL", "KEY", "WEBHOOK_SECRET", "CORPUS", "TEST_DATABASE_URL"}
    | {"CONSUMER_KEY", "CONSUMER_SECRET", "ACCESS_TOKEN", "CLIENT_ID", "CLIENT_SECRET"}
)
"""Read by commands and tests, not by a service."""


def wrong_settings() -> dict[str, str]:
    """Each bad setting of any service and what is wrong with it."""
    wrong: dict[str, str] = {}
    for settings in settings_classes():
        try:
            settings()
        except ValidationError as error:
            wrong |= faults_of(error)
    return wrong


def wrong_key_file() -> dict[str, str]:
    """The same of the file that stands in for `REGULARS_SECRET_KEY`, in sound settings. None is made."""
    settings = CommonSettings()
    try:
        if settings.secret_key is None and os.path.lexists(settings.data_dir / KEY_FILE):
            Keyring.from_settings(settings)
    except BadKeyFile as error:
        return fault_of_key_file(error)
    return {}


def unknown_settings(environment: Mapping[str, str]) -> list[str]:
    """Variables with our prefix that nothing reads: misspelt, or of another version."""
    names = {name.upper() for settings in settings_classes() for name in settings.model_fields}
    known = {f"{PREFIX}{name}{ending}" for name in names for ending in ("", "_FILE")}
    known |= {f"{PREFIX}{name}" for name in OF_COMMANDS}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def main() -> None:
    """`python -m regulars.wrong_settings`: with the settings of the environment. SystemExit where one is wrong."""
    if wrong := wrong_settings() or wrong_key_file():
        end_with(wrong)


if __name__ == "__main__":
    main()
