"""Proofs that a browser is a certain customer's: the shop's server asks for one when it has logged somebody in.

A token of ours and not a signature by the shop, so that a shop needs no cryptography and a store without secrets has
them too. It holds for one store, and not for long. What it names is as old as it is: a page may send it long after the
shop's server has told another address.
"""

from datetime import datetime, timedelta

import msgspec

from libs.common.contracts.commerce import Identifiers
from libs.common.crypto import BadToken, Keyring
from services.ingest.browser import LONGEST_PROOF_SECONDS, Proven
from services.ingest.registry import Registered

_PURPOSE = "browser events"


def prove(keyring: Keyring, tenant: str, store: str, who: Identifiers, *, made_at: datetime, expires: datetime) -> str:
    """The proof."""
    told = {"tenant": tenant, "store": store, **msgspec.to_builtins({"who": who, "made_at": made_at})}
    return keyring.sign_token(told, purpose=_PURPOSE, expires=expires)


def proven(keyring: Keyring, proof: str, store: Registered, now: datetime) -> Proven:
    """What a proof says. BadToken when it is none for this store, or has expired."""
    told = keyring.read_token(proof, purpose=_PURPOSE, now=now)
    if (told.get("tenant"), told.get("store")) != (store.tenant, store.key):
        raise BadToken("made for another store")
    # Those of before proofs said so may have been made as long ago as one may be used.
    made_at = told.get("made_at", now - timedelta(seconds=LONGEST_PROOF_SECONDS))
    return msgspec.convert((told["who"], made_at), Proven)
