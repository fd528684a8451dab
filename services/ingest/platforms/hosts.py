"""Which addresses may be asked: a store's own host, and nothing inside our own network.

A store's domain is what somebody typed. So the name is resolved here, every address that it has is looked at, and the
connection goes to the very address that was looked at: a second answer of the name server cannot lead elsewhere.
"""

import asyncio
import socket
import ssl
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import httpx

from services.ingest.platforms.port import NotAsked, Unavailable

_NAT64 = IPv6Network("64:ff9b::/96")
# What the standard library takes for public, at least in some of its versions: site-local addresses as they once were,
# those of documentation, the relays of 6to4.
_INSIDE = [ip_network(each) for each in ("fec0::/10", "3fff::/20", "192.88.99.0/24")]


def is_inside(address: str) -> bool:
    """Whether an IP address is not one of the public Internet; also when it is one in the disguise of an IPv6 one."""
    ip = ip_address(address.partition("%")[0])
    embedded: list[IPv4Address] = []
    if isinstance(ip, IPv6Address):
        embedded += [each for each in (ip.ipv4_mapped, ip.sixtofour) if each is not None]
        embedded += list(ip.teredo or ())
        if ip in _NAT64:
            embedded.append(IPv4Address(int(ip) & 0xFFFFFFFF))
        if not embedded and int(ip) >> 32 == 0:
            return True
    every: list[IPv4Address | IPv6Address] = [*embedded] if embedded else [ip]
    return any(
        not each.is_global or each.is_multicast or each.is_reserved or any(each in network for network in _INSIDE)
        for each in every
    )


@cache
def _trusted() -> ssl.SSLContext:
    """Whose certificates count. To read them takes 20 ms, in which nobody else is served: once is enough."""
    return httpx.create_ssl_context(trust_env=False)


class PinnedTransport(httpx.AsyncBaseTransport):
    """Connects to one host only, at an address that was looked at. Certificates are those of the host's name."""

    def __init__(self, host: str, *, inside: bool = False) -> None:
        """`host`: as in DNS, in ASCII. `inside`: whether addresses of our own network may be asked, too."""
        self._host = host
        self._inside = inside
        self._inner = httpx.AsyncHTTPTransport(verify=_trusted(), trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As httpx has it; NotAsked when the request is for elsewhere."""
        # `url.host` is what people read, and Python's resolver would make another name of that, by the rules of 2003.
        host = request.url.raw_host.decode("ascii")
        if host != self._host:
            raise NotAsked(f"{host} is not the store's own host")
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        address = await self._address(port)
        # The header `Host` was set when the request was built, and stays the name.
        request.url = request.url.copy_with(host=address)
        request.extensions = {**request.extensions, "sni_hostname": self._host}
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Ends its connections."""
        await self._inner.aclose()

    async def _address(self, port: int) -> str:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unavailable(f"{self._host} cannot be resolved") from error
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        if not self._inside and any(is_inside(each) for each in addresses):
            raise NotAsked(
                f"{self._host} has a private address, one that is not of the public Internet: such a store is asked"
                " only where REGULARS_FETCH_PRIVATE_ADDRESSES is true"
            )
        return addresses[0]
