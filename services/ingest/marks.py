"""Names that are known again once nobody is to read them: what a redaction leaves of whom it was about.

A mark is a keyed hash of a name for one store. Whoever has none of the installation's keys learns nothing from it, nor
whether it is somebody's. Marks of before a rotation go on to be met: keys of before stay in the keyring.
"""

from collections.abc import Collection, Iterable

from libs.common.crypto import Keyring
from services.ingest.statements import Told, kind, object_of

PSEUDONYM_BYTES = 16
_PHONE, _OTHER = b"\x01", b"\x00"


class Marks:
    """Of one store."""

    def __init__(self, keyring: Keyring, tenant: str, store: str) -> None:
        self._keyring = keyring
        self._context = f"marks of {tenant}/{store}".encode()

    def left(self, names: Iterable[str], met: Iterable[bytes]) -> list[bytes]:
        """What is left of them and of those `met`: phones only where there is nothing else, since they are shared."""
        every = {*met, *(self._of(name)[0] for name in names)}
        return sorted({mark for mark in every if not mark.startswith(_PHONE)} or every)

    def any_of(self, names: Iterable[str]) -> set[bytes]:
        """All that may be left of them, whichever key made it."""
        return {mark for name in names for mark in self._of(name)}

    def met(self, deliveries: Iterable[Told], marks: Collection[bytes]) -> tuple[set[str], set[str]]:
        """The names and the objects in these that are marked so."""
        if not marks:
            return set(), set()
        said = {each for told in deliveries for each in (told.root, *told.names, *told.objects)}
        found = {each for each in said if not self.any_of([each]).isdisjoint(marks)}
        return {each for each in found if object_of(each) is None}, {each for each in found if object_of(each)}

    def pseudonym(self, identifier: str) -> str:
        """What takes its place: the same of the same."""
        return f"redacted:{self._keyring.fingerprint(identifier.encode(), self._context)[:PSEUDONYM_BYTES].hex()}"

    def _of(self, name: str) -> list[bytes]:
        kept = _PHONE if kind(name) == "phone" else _OTHER
        return [kept + each for each in self._keyring.fingerprints(name.encode(), self._context)]
