"""Proofs that a browser is a certain customer's: the shop's server asks for one when it has logged somebody in.

A token of ours and not a signature by the shop, so that a shop needs no cryptography and a store without secrets has
them too. It holds for one store, and not for long.
"""

from datetime import datetime

import msgspec

from libs.common.contracts.commerce import Identifiers
from libs.common.crypto import BadToken, Keyring
from services.ingest.registry import Registered

_PURPOSE = "browser events"


def prove(keyring: Keyring, tenant: str, store: str, who: Identifiers, expires: datetime) -> str:
    """The proof."""
    told = {"tenant": tenant, "store": store, "who": msgspec.to_builtins(who)}
    return keyring.sign_token(told, purpose=_PURPOSE, expires=expires)


def proven(keyring: Keyring, proof: str, store: Registered, now: datetime) -> Identifiers:
    """Whom a proof names. BadToken when it is none for this store, or has expired."""
    told = keyring.read_token(proof, purpose=_PURPOSE, now=now)
    if (told.get("tenant"), told.get("store")) != (store.tenant, store.key):
        raise BadToken("made for another store")
    return msgspec.convert(told["who"], Identifiers)
