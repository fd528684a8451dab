"""Whether tests may have a Kafka on this machine."""

from functools import cache

from regulars.local_kafka import Unavailable, libraries


@cache
def no_kafka() -> str | None:
    """Why there is none to be had, in a line; None when there is. Fetches it, the first time."""
    try:
        libraries()
    except Unavailable as error:
        return " ".join(str(error).split())[:200]
    return None
