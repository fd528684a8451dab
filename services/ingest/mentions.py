"""Whether a text mentions a person that nobody took apart: his e-mail, anywhere. Pure.

No phones: shops' and products' numbers are as long, and stand in every link.

A text may be JSON, JSON printed within JSON, a form, or an address with a query: it is read as it stands, and with one
escaping after another taken off.
"""

import re
from collections.abc import Collection, Iterator
from urllib.parse import unquote, unquote_plus

ALIKE = 6
"""Digits without which a phone is not worth reading."""
DEPTH = 4
"""Escapings, at most: JSON within JSON within a query."""

# As JSON escapes characters, in lower case.
_ESCAPED = re.compile(r"\\(?:u([0-9a-f]{4})|(.))", re.DOTALL)
_SPACES = frozenset("bfnrt")
_BEGINNINGS = " \t\r\n\"'&=?@"
_OTHERS = bytes(set(range(256)) - set(b"0123456789"))


class Mentions:
    """Of one person."""

    def __init__(self, emails: Collection[str], phones: Collection[str]) -> None:
        """`emails`: as `plain` has them; `phones`: their digits."""
        # A name without an @ is a word as any other.
        self._emails = tuple(sorted(each for each in emails if "@" in each.strip("@")))
        alternatives = "|".join(map(re.escape, self._emails))
        self._email = re.compile(rf"(?<!\w)(?<!\w[.+\-])(?:{alternatives})(?![\w\-]|\.\w)")
        self._tails = tuple(sorted({each[-ALIKE:] for each in phones}))

    def spelled(self, text: str) -> bool:
        """Whether an e-mail of his stands in it, as a whole. `text`: one of `readings`."""
        return any(each in text for each in self._emails) and self._email.search(text) is not None

    def may_dial(self, text: str) -> bool:
        """Whether the last digits of a phone of his follow one another in it, whatever stands between them."""
        if not self._tails:
            return False
        found = digits(text)
        return any(each in found for each in self._tails)


def readings(text: str) -> Iterator[str]:
    """The text in lower case, and what is left of it once escapes are read, as often as there are any."""
    text = text.casefold()
    for _ in range(DEPTH):
        yield text
        before = text
        if "\\" in text:
            text = _ESCAPED.sub(_unescaped, text.replace("\\/", "/"))
        if "%" in text:
            text = unquote(_spaced(text))
        if text == before:
            return
        text = text.casefold()
    yield text


def readings_of_form(text: str) -> Iterator[str]:
    """As `readings`; of what may be a form, in which a plus is a space, too."""
    yield from readings(text)
    yield from readings(unquote_plus(text))


def stands(identifier: str, text: str) -> bool:
    """Whether it stands in the text as a whole. `text`: one of `readings`."""
    identifier = identifier.casefold()
    at = text.find(identifier)
    while at >= 0:
        if not text[at - 1 : at].isalnum() and not text[at + len(identifier) : at + len(identifier) + 1].isalnum():
            return True
        at = text.find(identifier, at + 1)
    return False


def plain(email: str) -> str:
    """As e-mails are compared: without the name that may stand before one."""
    email = email.strip().casefold()
    if email.endswith(">"):
        email = email[:-1].rpartition("<")[2].strip()
    return email


def digits(phone: str) -> str:
    """Those of a phone, as they are printed."""
    return phone.encode("ascii", "ignore").translate(None, _OTHERS).decode()


def _spaced(text: str) -> str:
    """Pluses as the spaces that they are before an @ that is printed as %40: who does that prints a plus as %2B."""
    *before, last = text.split("%40")
    pieces = []
    for each in before:
        place = max(map(each.rfind, _BEGINNINGS)) + 1
        pieces.append(each[:place] + each[place:].replace("+", " "))
    return "%40".join([*pieces, last])


def _unescaped(found: re.Match[str]) -> str:
    code, character = found.groups()
    if code:
        return chr(int(code, 16))
    return " " if character in _SPACES else character
