"""Secrets at rest, and links that nobody can forge.

A sealed value is `version (1) | key id (4) | wrapped data key (12 + 32 + 16) | nonce (12) | AES-256-GCM ciphertext`:
each value has a data key of its own, wrapped by the installation's key that the id names. So keys rotate by adding one
in front, without touching what is stored; the context (which store, which field) is authenticated with both.
"""

import base64
import fcntl
import hmac
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey

from libs.common.settings import KEY_BYTES, CommonSettings, keys_in

KEY_FILE = "secret.key"

_VERSION = b"\x01"
_ID_BYTES = 4
_NONCE_BYTES = 12
_WRAPPED_BYTES = _NONCE_BYTES + KEY_BYTES + 16
_HEADER_BYTES = len(_VERSION) + _ID_BYTES + _WRAPPED_BYTES + _NONCE_BYTES
_ALGORITHMS = ["HS256"]


class BadKeyFile(Exception):
    """The file of the installation's keys cannot be read or written, or holds none."""


class BadSeal(Exception):
    """Sealed by an unknown key, for another context, or damaged."""


class BadToken(Exception):
    """Not ours, made for another purpose, or expired. `expired` tells the last case apart."""

    def __init__(self, reason: str, *, expired: bool = False) -> None:
        super().__init__(reason)
        self.expired = expired


class Keyring:
    """The installation's keys: the first seals and signs, all of them open and verify."""

    def __init__(self, keys: Sequence[bytes], again: Callable[[], Sequence[bytes]] | None = None) -> None:
        """Keys of 32 bytes each, the current one first. ValueError otherwise.

        `again` reads them anew when something turns up that none of them has made: while keys are rotated other
        processes may be ahead of this one.
        """
        self._again = again
        self._take(keys)

    def _take(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a key must be {KEY_BYTES} bytes")
        self._keys = list(keys)
        self._wrapping: dict[bytes, AESGCM] = {}
        self._marking = [_derived(key, b"fingerprint") for key in keys]
        signing: list[OctKey | RSAKey | ECKey | OKPKey] = []
        for key in keys:
            key_id = sha256(b"regulars key id" + key).digest()[:_ID_BYTES]
            self._wrapping[key_id] = AESGCM(_derived(key, b"seal"))
            signing.append(OctKey.import_key(_derived(key, b"sign"), {"kid": key_id.hex(), "alg": "HS256"}))
        self._current = next(iter(self._wrapping))
        self._signing = KeySet(signing)

    @classmethod
    def from_settings(cls, settings: CommonSettings) -> Self:
        """From `secret_key`, or else from the file in `data_dir`, which is made if it is not there. BadKeyFile."""
        if settings.secret_key is not None:
            return cls(keys_in(settings.secret_key.get_secret_value()))
        path = settings.data_dir / KEY_FILE
        with _faults_of(path, "read"):
            keys = keys_in(_key_file(path))
        return cls(keys, lambda: keys_in(_key_file(path)))

    @classmethod
    def of_caller(cls, token: str) -> Self:
        """Of whoever holds this API key: of that a digest alone is kept, and nobody makes this of it."""
        return cls([_derived(token.encode(), b"caller")])

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Encrypts; `context` says where the value belongs and must be the same to open it."""
        data_key = os.urandom(KEY_BYTES)
        wrap_nonce, nonce = os.urandom(_NONCE_BYTES), os.urandom(_NONCE_BYTES)
        wrapped = wrap_nonce + self._wrapping[self._current].encrypt(wrap_nonce, data_key, context)
        header = _VERSION + self._current + wrapped + nonce
        return header + AESGCM(data_key).encrypt(nonce, plaintext, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The plaintext. BadSeal when it is not to be had."""
        if len(sealed) < _HEADER_BYTES or sealed[:1] != _VERSION:
            raise BadSeal("damaged")
        key_id = sealed[1 : 1 + _ID_BYTES]
        if key_id not in self._wrapping:
            self._read_again()
        wrapping = self._wrapping.get(key_id)
        if wrapping is None:
            raise BadSeal("sealed by a key that is not in the keyring")
        wrapped = sealed[1 + _ID_BYTES : 1 + _ID_BYTES + _WRAPPED_BYTES]
        nonce = sealed[_HEADER_BYTES - _NONCE_BYTES : _HEADER_BYTES]
        try:
            data_key = wrapping.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], context)
            return AESGCM(data_key).decrypt(nonce, sealed[_HEADER_BYTES:], context)
        except InvalidTag as error:
            raise BadSeal("damaged, or sealed for another context") from error

    def _read_again(self) -> bool:
        """Whether there are other keys now."""
        keys = self._again() if self._again is not None else self._keys
        if keys == self._keys:
            return False
        self._take(keys)
        return True

    def is_current(self, sealed: bytes) -> bool:
        """Whether the newest key sealed it: what a rotation has to seal again."""
        return sealed[1 : 1 + _ID_BYTES] == self._current

    def knows(self, sealed: bytes) -> bool:
        """Whether one of these keys sealed it."""
        return sealed[1 : 1 + _ID_BYTES] in self._wrapping

    def fingerprint(self, secret: bytes, context: bytes) -> bytes:
        """By which the same secret is known again, and which tells nothing to whoever has none of the keys."""
        return self.fingerprints(secret, context)[0]

    def is_of(self, fingerprint: bytes, secret: bytes, context: bytes) -> bool:
        """Whether one of these keys made it of this secret."""
        return any(same(fingerprint, each) for each in self.fingerprints(secret, context))

    def fingerprints(self, secret: bytes, context: bytes) -> list[bytes]:
        """What each of these keys would make of it, the current one's first."""
        return [hmac.digest(key, context + b"\0" + secret, "sha256") for key in self._marking]

    def sign_token(self, payload: Mapping[str, Any], *, purpose: str, expires: datetime) -> str:
        """A URL-safe token (JWT, HS256) that carries `payload` readably and cannot be altered or used elsewhere."""
        header = {"alg": "HS256", "kid": self._current.hex()}
        claims = {"aud": purpose, "exp": int(expires.timestamp()), "data": dict(payload)}
        return jwt.encode(header, claims, self._signing, algorithms=_ALGORITHMS)

    def read_token(self, token: str, *, purpose: str, now: datetime) -> dict[str, Any]:
        """The payload. BadToken when it is not ours, not for this purpose, or past its time."""
        claims = self._claims(token)
        if claims is None and self._read_again():
            claims = self._claims(token)
        if claims is None:
            raise BadToken("not a token of ours")
        data, expires = claims.get("data"), claims.get("exp")
        if claims.get("aud") != purpose or not isinstance(data, dict) or not isinstance(expires, int):
            raise BadToken("made for another purpose")
        if now.timestamp() >= expires:
            raise BadToken("expired", expired=True)
        return data

    def _claims(self, token: str) -> dict[str, Any] | None:
        try:
            return jwt.decode(token, self._signing, algorithms=_ALGORITHMS).claims
        except (JoseError, ValueError):
            return None


def add_key(data_dir: Path) -> None:
    """Puts a new key in front of the file's. FileNotFoundError without a file; BadKeyFile, and the file as it was.

    Processes that run read the file again when they meet what the new key has sealed.
    """
    path = data_dir / KEY_FILE
    if not os.path.lexists(path):
        raise FileNotFoundError(path)
    with _faults_of(path, "read"):
        folder = os.open(data_dir, os.O_RDONLY)
    try:
        # Of two rotations at a time neither may forget the key that the other has made.
        fcntl.flock(folder, fcntl.LOCK_EX)
        with _faults_of(path, "read"):
            held = path.read_text(encoding="ascii").strip()
            keys_in(held)
        with _faults_of(path, "written"):
            _written(path, f"{new_key()},{held}", over=True)
    finally:
        os.close(folder)


def new_key() -> str:
    """A fresh key as `REGULARS_SECRET_KEY` takes it."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def digest(content: bytes) -> bytes:
    """SHA-256."""
    return sha256(content).digest()


def same(one: bytes, other: bytes) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


def _derived(key: bytes, use: bytes) -> bytes:
    # One key for one use: what signs must never be what encrypts.
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"regulars " + use).derive(key)


@contextmanager
def _faults_of(path: Path, done: str) -> Iterator[None]:
    """BadKeyFile for what goes wrong with the file. `done`: with it, such as `read`."""
    try:
        yield
    except OSError as error:
        raise BadKeyFile(f"{path}: cannot be {done}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadKeyFile(f"{path}: must be {KEY_BYTES} bytes in base64, and is no text") from error
    except ValueError as error:
        raise BadKeyFile(f"{path}: {error}") from error


def _key_file(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        _written(path, new_key(), over=False)
    return path.read_text(encoding="ascii").strip()


def _written(path: Path, text: str, *, over: bool) -> None:
    # Written aside and put in place whole: of two first starts one wins, and no half-written key is ever read.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if over:
            status = path.stat()
            # Who rotates may be another user than who runs it all.
            os.chown(draft, status.st_uid, status.st_gid)
            draft.replace(path)
        else:
            path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)
