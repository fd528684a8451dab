"""Who calls without an API key, and how often he may."""

import re
from collections import OrderedDict
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

MOST_REMEMBERED = 50_000
"""Callers: some 10 MB. Whoever has as many addresses as that is held back by the limit of the key alone."""
_MINUTE = 60.0
_SITE = 64
"""Bits of an IPv6 address that somebody is given; the rest he chooses."""
_HOPS = 16
_WRITTEN = re.compile(r"(?:\[([^\]]+)\]|([0-9.]+))(?::[0-9]{1,5})?")
"""An address that may have a port: of an IPv6 one only the brackets tell where it begins."""

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, by commas. ValueError when one is neither."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def caller(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address that a request came from, as far as it can be believed; an IPv6 one without its last 64 bits.

    `peer`: who is connected. `forwarded`: the X-Forwarded-For headers, in order. Each proxy puts whom it heard before
    itself at the end, so they are read from there, for as long as a trusted proxy is speaking.
    """
    hops = [hop.strip() for hop in ",".join(forwarded).split(",")][-_HOPS:]
    found = _address(peer or "")
    while hops and found is not None and any(found in network for network in trusted):
        earlier = _address(hops.pop())
        if earlier is None:
            break
        found = earlier
    if found is None:
        return ""
    return str(ip_network((found, _SITE), strict=False)) if isinstance(found, IPv6Address) else str(found)


def _address(text: str) -> Address | None:
    """With a port or without: some proxies say, too, from which one they were asked."""
    written = _WRITTEN.fullmatch(text)
    try:
        found = ip_address((written[1] or written[2]) if written is not None else text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


class _Bucket(NamedTuple):
    left: float
    at: float


class Throttle:
    """Token buckets by name: so many in a minute, and as many at once after a quiet one."""

    def __init__(self, per_minute: int, *, most: int = MOST_REMEMBERED) -> None:
        """`per_minute`: 0 for no limit. `most`: names that are remembered; of more the longest silent is forgotten."""
        self._per_minute = per_minute
        self._most = most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        """Names that are remembered."""
        return len(self._buckets)

    def take(self, name: str, n: int, now: float) -> float:
        """Takes `n`, and is 0.0; or takes nothing, and is how many seconds it will be until they are there.

        `now`: seconds of a clock that never goes back. `n` above the limit counts as the limit: else it never came.
        """
        if not self._per_minute:
            return 0.0
        rate = self._per_minute / _MINUTE
        known = self._buckets.get(name)
        left = float(self._per_minute)
        if known is not None:
            left = min(left, known.left + (now - known.at) * rate)
        wanted = min(n, self._per_minute)
        wait = max(0.0, (wanted - left) / rate)
        self._buckets[name] = _Bucket(left if wait else left - wanted, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return wait
