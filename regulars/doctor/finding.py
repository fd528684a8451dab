"""What a check is given, and what it answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from libs.common.settings import CommonSettings

Level = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    level: Level
    detail: str
    """What is so, in one line. No secret, no personal data."""
    next_step: str = ""
    """What to do about it; empty when all is well."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where to look."""

    settings: CommonSettings | None
    """None when they are wrong."""
    data_dir: Path
    url: str
    """The database's address. Checks that need it are not asked when it does not answer."""


@dataclass(frozen=True, slots=True)
class Check:
    """One subject. `look` may raise: that is a finding as well."""

    name: str
    look: Callable[[Ground], Awaitable[list[Finding]]]
    needs_database: bool = True
    needs_schemas: bool = False
    """Not asked before `regulars migrate` has made the tables."""
