"""`make secrets`: written once, to be read by nobody else, and never twice the same."""

import subprocess
from base64 import b64decode
from pathlib import Path

ROOT = Path(__file__).parents[3]


def make(folder: Path) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["/bin/sh", str(ROOT / "deploy/secrets.sh"), str(folder)], check=True, capture_output=True)
    return {path.name: path.read_text() for path in [folder / ".env", *(folder / "secrets").iterdir()]}


def test_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    made = make(tmp_path / "one")
    assert (tmp_path / "one/.env").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "one/secrets").stat().st_mode & 0o777 == 0o700
    assert len(b64decode(made["secret_key"])) == 32
    assert made["postgres_password"] in made["database_url"]
    assert len(made["admin_key"]) > 40
    assert make(tmp_path / "one") == made


def test_no_two_installations_share_one(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    for name in one.keys() - {".env", "smtp_password"}:
        assert one[name] != other[name], name


def test_nothing_secret_is_in_env(tmp_path: Path) -> None:
    made = make(tmp_path / "one")
    for name, value in made.items():
        assert name in {".env", "smtp_password"} or value.strip() not in made[".env"]
