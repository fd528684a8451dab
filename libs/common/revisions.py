"""The newest revisions of a migration tree, read without Alembic: for who only asks whether a schema is up to date."""

import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

VERSION_TABLE = "alembic_version"

_REVISION = re.compile(r'^revision\b.*= *"([^"]+)"', re.MULTILINE)
_DOWN_REVISION = re.compile(r"^down_revision\b.*=(.*)$", re.MULTILINE)
_QUOTED = re.compile(r'"([^"]+)"')


@lru_cache
def heads(script_location: str) -> tuple[str, ...]:
    """The newest revisions of a tree: those that no other one comes after."""
    made, followed = _read(script_location)
    return tuple(sorted(made - followed))


def known(script_location: str) -> frozenset[str]:
    """All revisions of a tree: one that is not among them is of a newer Regulars, or of another."""
    return frozenset(_read(script_location)[0])


def are_reached(script_location: str, versions: Collection[str]) -> bool:
    """Whether a schema at these revisions is one that the code beside this tree works on.

    At its newest ones, or at such that it does not know: migrations come before the roll-out, and what runs goes on
    serving until it is replaced. Each is written so that the code of before works on it.
    """
    older = known(script_location) - set(heads(script_location))
    return bool(versions) and older.isdisjoint(versions)


def _read(script_location: str) -> tuple[set[str], set[str]]:
    made: set[str] = set()
    followed: set[str] = set()
    for path in Path(script_location, "versions").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        made.update(_REVISION.findall(source))
        followed.update(_QUOTED.findall("".join(_DOWN_REVISION.findall(source))))
    return made, followed
