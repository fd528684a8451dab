"""Whether a delivery is about a person. Pure.

Who is asked about is known by names (`services.ingest.statements`) and by objects. Names may stand anywhere in a body,
one that no normaliser can read yet included, so all of it is looked through. An object that he was found in by name (an
order as a guest) is his as a whole: its refunds and its deletion name nobody. What speaks of a cart or checkout of his,
and of nobody by name, is his, too: what a visitor did before he said who he is. Whoever mentions him between other
words (a note, an address, the name of a field) says nothing of the object: that delivery alone is about him.

What says that it is somebody else's is not his because it mentions him, shares a phone, or has a token of his: anybody
may have written his address into another's order, by a link or as who gets a gift. A phone by itself is all there is to
go by where nothing else was asked for.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any, Literal

from services.ingest.mentions import ALIKE, Mentions, digits, plain, readings, readings_of_form, stands
from services.ingest.printed import identifier
from services.ingest.statements import Told, content_of, kind, phones, value

# Platforms' own numbers are as long, and begin with neither.
_DIALLED = re.compile(r"[+0][0-9 ()./-]{8,}")
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
        self._mentions = Mentions(self._emails, self._phones)
        self._known_by = self.names - {f"phone:{each}" for each in self._phones} or self.names

    @staticmethod
    def _values(of: str, names: Collection[str]) -> frozenset[str]:
        return frozenset(value(name) for name in names if kind(name) == of)

    def is_in(self, told: Told) -> bool:
        """Whether the delivery is about the person."""
        return self.is_named(told) or self.owns(told) or self.has(told) or self.mentioned(told) is not None

    def is_named(self, told: Told) -> bool:
        """Whether he is one of those of whom it says who they are."""
        if told.root in self.names or any(name in self._known_by for name in told.names):
            return True
        return any(name in self.names for name in told.names) and not self.is_of_others(told)

    def is_of_others(self, told: Told) -> bool:
        """Whether it says that it is somebody's whom he is not known to be."""
        others = (name for name in told.names if kind(name) != "phone" and name not in self.names)
        # A shop may call its customers by their e-mails, or by their phones.
        return not all(map(self.is_called, others))

    def has(self, told: Told) -> bool:
        """Whether it is of an object of his. His cart or checkout may have become another's, and an order does not."""
        return told.root in self.roots and (kind(told.root) == "order" or not self.is_of_others(told))

    def owns(self, told: Told) -> bool:
        """Whether it belongs to an object of his, and names nobody."""
        return not any(told.names) and any(each in self.roots for each in told.objects)

    def mentioned(self, told: Told) -> Literal["field", "text"] | None:
        """Where a name of his stands in it, however deep: as a field's whole value, or between something else.

        None where it is somebody else's, too.
        """
        if self.is_of_others(told):
            return None
        text = "\n".join([told.body.decode(errors="replace"), told.aside])
        texts = list(readings_of_form(text) if told.content is None else readings(text))
        spelled = any(map(self._mentions.spelled, texts)) or self.is_called(told.root)
        if told.content is not None and (spelled or any(map(self._may_name, texts))) and self._within(told.content):
            return "field"
        return "text" if spelled else None

    def is_called(self, called: str) -> bool:
        """Whether what something is called says who he is: it holds an e-mail of his, or is a phone of his."""
        if any(map(self._mentions.spelled, readings(called))):
            return True
        number = value(called) or called
        return _DIALLED.fullmatch(number) is not None and any(each in self.names for each in phones(number, None))

    def _may_name(self, text: str) -> bool:
        """Whether a body that reads so has to be taken apart for a field that names him."""
        bare = text.replace("_", "")
        return (
            any(email in text for email in self._emails)
            or ("customer" in bare and any(stands(number, text) for number in self._numbers))
            or ("orderid" in bare and any(stands(order, text) for order in self._orders))
            or self._mentions.may_dial(text)
        )

    def _within(self, content: Any) -> bool:
        """Whether a field names him. `content`: all of a body; JSON that is printed within a text is read, too."""
        left: list[tuple[str, Any, dict[str, Any]]] = [("", content, {})]
        while left:
            name, found, around = left.pop()
            if isinstance(found, str):
                if plain(found) in self._emails or self._is(name, found, around):
                    return True
                if found[:1] in ("{", "["):
                    left.append((name, content_of(found.encode(errors="replace")), around))
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
