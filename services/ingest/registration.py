"""What may be registered as a store."""

import re
import unicodedata
from functools import cache
from ipaddress import IPv6Address
from itertools import takewhile
from zoneinfo import available_timezones

import idna

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}(?::\d{{1,5}})?")
_LONGEST_HOST = 253
_SEGMENT = re.compile(r"[A-Za-z0-9_~][A-Za-z0-9._~-]*")
_LONGEST_PATH = 200
_BEHIND_A_SITE = {"wp-json", "wp-admin", "wp-login.php", "index.php"}
_SEEN = {"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "So", "Sm", "Sc", "Po"}
_TURNING = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F)}
_PORTS = {"http": 80, "https": 443}
_LAST_PORT = 65_535
_OWN_MACHINE = {"localhost", "127.0.0.1", "[::1]"}
MAX_SECRETS = 8
"""Active at one time; a rotation needs two."""
MAX_PUBLIC_KEYS = 8
MAX_ORIGINS = 20
"""Of one public key."""


def domain_of(text: str) -> str:
    """`https://Shop.Example.com/wp/` is `shop.example.com`. ValueError for what is no host name with or without those.

    Nor is one behind a name and a password, or before a `?` or `#` without a path: whoever typed that meant another.
    Names in other letters are those of IDNA 2008, as in browsers: `faß.de` is `xn--fa-hia.de`, and not `fass.de`.
    """
    host = re.sub(r"^[a-z][a-z0-9+.-]*://", "", text.strip().lower())
    host = host.partition("/")[0].rstrip(".")
    try:
        host = _in_ascii(host)
    except UnicodeError:
        host = ""
    if len(host) > _LONGEST_HOST or not _HOST.fullmatch(host):
        raise ValueError("not a host name")
    if port := host.partition(":")[2]:
        _port(port)
    return host


def site_of(text: str) -> str:
    """`https://Shop.Example.com/de/wp-admin/` is `shop.example.com/de`: one host may have several shops. ValueError.

    The path is kept as it is written; what WordPress has behind a site's address, and what follows `?` or `#`, is none
    of it.
    """
    path = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", text.strip()).partition("/")[2]
    segments = [
        *takewhile(lambda each: each not in _BEHIND_A_SITE, filter(None, re.split(r"[?#]", path)[0].split("/")))
    ]
    if any(_SEGMENT.fullmatch(each) is None for each in segments) or len("/".join(segments)) > _LONGEST_PATH:
        raise ValueError("not a site's path")
    return "/".join([domain_of(text), *segments])


def host_of(site: str) -> str:
    """Of what `site_of` and `domain_of` have."""
    return site.partition("/")[0]


def _in_ascii(host: str) -> str:
    """As in DNS. UnicodeError for what no name server can know, `xn--` before what is no name among it."""
    name, colon, port = host.partition(":")
    if not name.isascii():
        name = idna.encode(name, uts46=True).decode()
    for label in name.split("."):
        if label.startswith("xn--") and idna.encode(idna.decode(label)).decode() != label:
            raise UnicodeError(label)
    return f"{name}{colon}{port}"


def _port(digits: str) -> int:
    """ValueError for what no connection can be made to."""
    port = int(digits)
    if not 0 < port <= _LAST_PORT:
        raise ValueError("not a port of a host name")
    return port


def origin_of(text: str) -> str:
    """`https://Shop.Example.com:443/` is `https://shop.example.com`, as browsers name a page's origin.

    ValueError when it is none, or when anybody between could have written its pages: http is for one's own machine.
    """
    found = re.fullmatch(r"(https?)://(\[[0-9A-Fa-f:]+\]|[^\s/?#@\\:]+)(?::(\d{1,5}))?/?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError("not an origin")
    scheme, host = found[1].lower(), found[2].lower()
    if scheme == "http" and host not in _OWN_MACHINE:
        raise ValueError("not https")
    host = f"[{IPv6Address(host[1:-1])}]" if host.startswith("[") else domain_of(host)
    port = _port(found[3]) if found[3] else _PORTS[scheme]
    return f"{scheme}://{host}" + ("" if port == _PORTS[scheme] else f":{port}")


@cache
def timezones() -> frozenset[str]:
    """The IANA names of places, and not those of whatever a machine is set to."""
    return frozenset(available_timezones()) - {"localtime", "Factory", "posixrules"}


def is_name(text: str) -> bool:
    """Whether people can read it as a name: something to see in it, and nothing that turns the text around it."""
    kinds = {unicodedata.category(character) for character in text}
    return bool(kinds & _SEEN) and "Cc" not in kinds and not _TURNING & set(text)


def api_url(text: str | None, domain: str) -> str:
    """Where the API of a store of this domain is. ValueError when `text` is an address elsewhere."""
    if text is None:
        return f"https://{domain}"
    found = re.fullmatch(r"(https?)://([^/?#@\\]+)(/[A-Za-z0-9._~/-]*)?", text.strip())
    if found is None or domain_of(found[2]) != host_of(domain) or "/." in (found[3] or ""):
        raise ValueError("not an address of this store")
    return f"{found[1]}://{host_of(domain)}{(found[3] or '').rstrip('/')}"
