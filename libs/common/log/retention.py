"""How long the bodies of a log are kept: an installation's days, and those of tenants that differ."""

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import NamedTuple, Self

from msgspec import Struct

_ENTRY = re.compile(r"(?:(?P<tenant>[A-Za-z0-9._-]+):)?(?P<days>[0-9]{1,6})")


class Passed(NamedTuple):
    """Tenants whose retention has passed: those of `tenants`, or with `others` all but those."""

    others: bool
    tenants: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether there may be any."""
        return self.others or bool(self.tenants)

    def without(self, tenants: Collection[str]) -> "Passed":
        """The same but for these, who keep theirs for now."""
        named = {*self.tenants, *tenants} if self.others else {*self.tenants} - {*tenants}
        return Passed(self.others, tuple(sorted(named)))

    def __str__(self) -> str:
        names = ", ".join(self.tenants)
        if not self.others:
            return names
        return f"all but {names}" if names else "all"


class Retention(Struct, frozen=True):
    """Days that a record's body is kept after it was appended, at least."""

    days: int
    tenants: Mapping[str, int] = {}
    """Of those that have days of their own."""

    @classmethod
    def parse(cls, text: str, *, least: int, most: int) -> Self:
        """`90, acme:30`: the installation's days, then tenants'. ValueError, naming the entry that is wrong."""
        days: dict[str | None, int] = {}
        for entry in filter(None, re.split(r"[, ]+", text)):
            found = _ENTRY.fullmatch(entry)
            if found is None:
                raise ValueError(f"{entry}: days, or tenant:days, by commas")
            tenant = found["tenant"]
            if tenant in days:
                raise ValueError(f"{entry}: {tenant or 'the installation'} has days already")
            days[tenant] = int(found["days"])
            if not least <= days[tenant] <= most:
                raise ValueError(f"{entry}: between {least} and {most} days")
        if None not in days:
            raise ValueError("the days of all tenants that are not named are missing: 90,acme:30")
        return cls(days.pop(None), {tenant: n for tenant, n in days.items() if tenant is not None})

    @property
    def longest(self) -> int:
        """Days after which nobody's are kept."""
        return max(self.days, *self.tenants.values(), 0)

    @property
    def shortest(self) -> int:
        """Days up to which everybody's are kept."""
        return min([self.days, *self.tenants.values()])

    def passed(self, age: timedelta) -> Passed:
        """Whose has passed for records that are so old."""
        others = timedelta(days=self.days) <= age
        named = sorted(t for t, days in self.tenants.items() if (timedelta(days=days) <= age) is not others)
        return Passed(others, tuple(named))
