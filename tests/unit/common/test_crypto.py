import base64
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey

from libs.common.crypto import BadKeyFile, BadSeal, BadToken, Keyring, add_key, digest, new_key, same
from libs.common.settings import CommonSettings

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
OLD, NEW = b"o" * 32, b"n" * 32


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_what_is_sealed_opens(plaintext: bytes, context: bytes) -> None:
    keyring = Keyring([OLD])
    assert keyring.open(keyring.seal(plaintext, context), context) == plaintext


def test_the_same_is_never_sealed_the_same() -> None:
    keyring = Keyring([OLD])
    assert keyring.seal(b"secret", b"") != keyring.seal(b"secret", b"")


def test_another_context_does_not_open() -> None:
    keyring = Keyring([OLD])
    with pytest.raises(BadSeal):
        keyring.open(keyring.seal(b"secret", b"store 1"), b"store 2")


def test_any_damage_is_seen() -> None:
    keyring = Keyring([OLD])
    sealed = keyring.seal(b"secret", b"c")
    for n in range(len(sealed)):
        damaged = sealed[:n] + bytes([sealed[n] ^ 1]) + sealed[n + 1 :]
        with pytest.raises(BadSeal):
            keyring.open(damaged, b"c")
    for n in range(len(sealed)):
        with pytest.raises(BadSeal):
            keyring.open(sealed[:n], b"c")


def test_keys_rotate() -> None:
    before, during, after = Keyring([OLD]), Keyring([NEW, OLD]), Keyring([NEW])
    sealed = before.seal(b"secret", b"c")
    assert during.open(sealed, b"c") == b"secret"
    assert not during.is_current(sealed)
    resealed = during.seal(during.open(sealed, b"c"), b"c")
    assert during.is_current(resealed)
    assert after.open(resealed, b"c") == b"secret"
    with pytest.raises(BadSeal):
        after.open(sealed, b"c")


def test_tokens() -> None:
    keyring = Keyring([OLD])
    token = keyring.sign_token({"profile": "p1"}, purpose="unsubscribe", expires=NOW + timedelta(days=1))
    assert keyring.read_token(token, purpose="unsubscribe", now=NOW) == {"profile": "p1"}
    assert Keyring([NEW, OLD]).read_token(token, purpose="unsubscribe", now=NOW) == {"profile": "p1"}
    with pytest.raises(BadToken, match="purpose"):
        keyring.read_token(token, purpose="login", now=NOW)
    with pytest.raises(BadToken, match="expired") as caught:
        keyring.read_token(token, purpose="unsubscribe", now=NOW + timedelta(days=1))
    assert caught.value.expired
    with pytest.raises(BadToken):
        Keyring([NEW]).read_token(token, purpose="unsubscribe", now=NOW)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é", "\x00", "e30.e30.e30", "x" * 10_000])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(BadToken):
        Keyring([OLD]).read_token(token, purpose="unsubscribe", now=NOW)


def test_a_token_signed_without_our_key_is_refused() -> None:
    keyring = Keyring([OLD])
    ours = keyring.sign_token({}, purpose="p", expires=NOW + timedelta(1))
    claims = {"aud": "p", "exp": int(NOW.timestamp()) + 9, "data": {}}
    forged = jwt.encode({"alg": "HS256", "kid": "00000000"}, claims, OctKey.import_key(b"guess" * 8))
    unsigned = "eyJhbGciOiJub25lIn0." + ours.split(".")[1] + "."
    for token in (forged, unsigned, ours[:-4] + "AAAA"):
        with pytest.raises(BadToken):
            keyring.read_token(token, purpose="p", now=NOW)


def test_a_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    settings = CommonSettings(data_dir=tmp_path / "data")
    first = Keyring.from_settings(settings)
    sealed = first.seal(b"secret", b"c")
    assert Keyring.from_settings(settings).open(sealed, b"c") == b"secret"
    files = list((tmp_path / "data").iterdir())
    assert [file.name for file in files] == ["secret.key"]
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600


def test_keys_from_settings() -> None:
    old, new = new_key(), new_key()
    sealed = Keyring([base64.b64decode(old)]).seal(b"x", b"")
    assert Keyring.from_settings(CommonSettings(secret_key=f"{new}, {old}")).open(sealed, b"") == b"x"
    for bad in ("short", base64.b64encode(b"short").decode(), "!" * 44):
        with pytest.raises(ValueError, match="32 bytes"):
            Keyring.from_settings(CommonSettings(secret_key=bad))


def test_digest_and_comparison() -> None:
    assert digest(b"").hex().startswith("e3b0c442")
    assert same(b"a", b"a")
    assert not same(b"a", b"b")
    assert not same(b"a", b"aa")


def test_keys_that_were_put_in_front_meanwhile_are_found(tmp_path: Path) -> None:
    settings = CommonSettings(data_dir=tmp_path)
    running = Keyring.from_settings(settings)
    before = running.seal(b"x", b"")
    add_key(tmp_path)
    ahead = Keyring.from_settings(settings)
    sealed = ahead.seal(b"y", b"")
    link = ahead.sign_token({"profile": "p1"}, purpose="unsubscribe", expires=NOW + timedelta(days=1))
    assert running.read_token(link, purpose="unsubscribe", now=NOW) == {"profile": "p1"}
    assert running.open(sealed, b"") == b"y"
    assert running.open(before, b"") == ahead.open(before, b"") == b"x"
    assert running.is_current(sealed)
    assert not running.is_current(before)
    assert [file.name for file in tmp_path.iterdir()] == ["secret.key"]
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600
    with pytest.raises(BadToken):
        running.read_token("none", purpose="unsubscribe", now=NOW)


def test_a_key_is_put_in_front_of_keys_only(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        add_key(tmp_path)
    for damaged, told in ((b"no key", "32 bytes"), (b"\xff\xfe", "no text"), (b"", "32 bytes")):
        (tmp_path / "secret.key").write_bytes(damaged)
        with pytest.raises(BadKeyFile, match=told):
            add_key(tmp_path)
        assert (tmp_path / "secret.key").read_bytes() == damaged
    (tmp_path / "secret.key").unlink()
    (tmp_path / "secret.key").mkdir()
    with pytest.raises(BadKeyFile, match="cannot be read: Is a directory"):
        add_key(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["secret.key"]


def test_a_secret_is_known_again_by_its_fingerprint() -> None:
    old, new = b"o" * 32, b"n" * 32
    mark = Keyring([old]).fingerprint(b"hush", b"store/a")
    assert b"hush" not in mark
    # Also behind a key that came since; and by nobody who has none of them.
    assert Keyring([new, old]).is_of(mark, b"hush", b"store/a")
    assert not Keyring([new]).is_of(mark, b"hush", b"store/a")
    assert not Keyring([old]).is_of(mark, b"hush!", b"store/a")
    assert not Keyring([old]).is_of(mark, b"hush", b"store/b")
