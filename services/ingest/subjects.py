"""Whether a delivery is about a person. Pure.

Who is asked about is known by names (`services.ingest.statements`) and by objects. Names may stand anywhere in a body,
one that no normaliser can read yet included, so all of it is looked through. An object that he was found in by name (an
order as a guest) is his as a whole: its refunds and its deletion name nobody. What speaks of a cart or checkout of his,
and of nobody by name, is his, too: what a visitor did before he said who he is.
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

from services.ingest.printed import identifier
from services.ingest.statements import ALIKE, Told, digits, kind, phones, plain, value

_CUSTOMER = ("customer", "customerid")


class Subject:
    """One person."""

    def __init__(self, names: Collection[str], roots: Collection[str]) -> None:
        """`roots`: of objects that are known to be the person's, such as `order:1001`."""
        self.names = frozenset(names)
        self.roots = frozenset(roots)
        self._orders = self._values("order", self.roots)
        self._numbers = self._values("customer", self.names)
        self._emails = self._values("email", self.names)
        self._phones = self._values("phone", self.names)
        self._alike = {each[-ALIKE:] for each in self._phones}

    @staticmethod
    def _values(of: str, names: Collection[str]) -> frozenset[str]:
        return frozenset(value(name) for name in names if kind(name) == of)

    def is_in(self, told: Told) -> bool:
        """Whether the delivery is about the person."""
        return self.is_named(told) or self.owns(told) or told.root in self.roots or self.is_mentioned(told)

    def is_named(self, told: Told) -> bool:
        """Whether he is one of those of whom it says who they are."""
        return told.root in self.names or any(name in self.names for name in told.names)

    def owns(self, told: Told) -> bool:
        """Whether it belongs to an object of his, and names nobody."""
        return not any(told.names) and any(each in self.roots for each in told.objects)

    def is_mentioned(self, told: Told) -> bool:
        """Whether a name of his stands anywhere in it, however deep."""
        if told.content is None:
            text = plain(unquote_plus(told.body.decode(errors="replace")))
            return any(email in text for email in self._emails)
        left: list[tuple[str, Any, dict[str, Any]]] = [("", told.content, {})]
        while left:
            name, found, around = left.pop()
            if isinstance(found, str):
                if plain(found) in self._emails or self._is(name, found, around):
                    return True
            elif isinstance(found, dict):
                if name in _CUSTOMER and identifier(found.get("id")) in self._numbers:
                    return True
                left += [(_bare(key), each, found) for key, each in found.items()]
            elif isinstance(found, list):
                left += [(name, each, around) for each in found]
            elif isinstance(found, int) and self._is(name, found, around):
                return True
        return False

    def _is(self, name: str, found: str | int, around: dict[str, Any]) -> bool:
        """`name`: of the field, or of the list that it is in. `around`: what that stands in."""
        if name in _CUSTOMER:
            return identifier(found) in self._numbers
        if name == "orderid":
            return identifier(found) in self._orders
        return "phone" in name and bool(self._phones) and self._same_phone(str(found), around)

    def _same_phone(self, raw: str, around: dict[str, Any]) -> bool:
        if digits(raw)[-ALIKE:] not in self._alike:
            return False
        country = around.get("country_code") or around.get("country")
        return any(name in self.names for name in phones(raw, country if isinstance(country, str) else None))


@lru_cache(16_384)
def _bare(key: str) -> str:
    """Lower case, without underscores."""
    return key.lower().replace("_", "")
