"""Lists of a platform's answer, which may be of any length: no more is made of them than was asked for."""

from collections.abc import Callable

import msgspec


def at_most(length: int) -> Callable[[bytes], list[msgspec.Raw]]:
    """Reads the first so many items of a list, and one more: that says that there are too many.

    What lies behind is skipped: of a list of millions, a real one would first make that many objects, and be measured
    then. The items stay as they are printed.
    """
    places = [(f"at_{n}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for n in range(length + 1)]
    decoder = msgspec.json.Decoder(msgspec.defstruct(f"AtMost{length}", places, array_like=True))

    def read(content: bytes) -> list[msgspec.Raw]:
        return [each for each in msgspec.structs.astuple(decoder.decode(content)) if isinstance(each, msgspec.Raw)]

    return read
