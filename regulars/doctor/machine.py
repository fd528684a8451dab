"""What lies on this machine: settings, the secret key, the disk; and whether mail leaves it."""

import asyncio
import os
import shutil
import stat
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from libs.common.crypto import KEY_FILE, BadKeyFile, Keyring
from regulars.doctor.finding import Finding, Ground
from regulars.parts import settings_class
from regulars.wrong_settings import unknown_settings, wrong_settings

LOW_SHARE, LOW_BYTES = 0.10, 2 * 1024**3
EMPTY_SHARE, EMPTY_BYTES = 0.02, 256 * 1024**2
RELAY_SECONDS = 3.0


async def settings(_: Ground) -> list[Finding]:
    """Each wrong one by name."""
    wrong = wrong_settings()
    found = [
        Finding("settings", "failed", f"{name}: {reason}", "set it as docs/settings.md says; `regulars config check`")
        for name, reason in wrong.items()
    ]
    found += [
        Finding("settings", "warning", f"{name} is read by nothing", "correct its name (docs/settings.md) or unset it")
        for name in unknown_settings(os.environ)
    ]
    return found or [Finding("settings", "ok", "in order")]


async def secret_key(ground: Ground) -> list[Finding]:
    """Readable, whole, and nobody else's to read. Makes none."""
    if ground.settings is None:
        return [Finding("secret key", "warning", "not looked at: settings are wrong", "put the settings in order")]
    path = ground.data_dir / KEY_FILE
    given = ground.settings.secret_key is not None
    if not given:
        if not path.exists():
            step = "a first start makes one; was there a key before, put it back: only it opens the stores' secrets"
            return [Finding("secret key", "warning", "there is none yet; the first start makes it", step)]
        if not os.access(path, os.R_OK):
            return [Finding("secret key", "failed", f"{path} cannot be read", "run as its owner, or give it to us")]
    try:
        Keyring.from_settings(ground.settings.model_copy(update={"data_dir": ground.data_dir}))
    except BadKeyFile as error:
        return [Finding("secret key", "failed", str(error), "put back the key that the stores were registered under")]
    if not given and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return [Finding("secret key", "warning", f"{path} is open to others", f"chmod 600 {path}")]
    return [Finding("secret key", "ok", "readable" + ("" if given else f": {path}"))]


async def mail(ground: Ground) -> list[Finding]:
    """A relay that answers, and what every mail says of who sends it."""
    if ground.settings is None:
        return [Finding("mail", "warning", "not looked at: settings are wrong", "put the settings in order")]
    given = settings_class("messaging")()
    if not given.model_fields_set & {"smtp_host", "smtp_port", "mail_from", "postal_address"}:
        why = (
            "not looked at: no mail settings are given here; ask with those that `regulars run` or `regulars work"
            " messaging` has. What its relay did not take, messages tell"
        )
        return [Finding("mail", "ok", why)]
    told = given.model_dump()
    relay = f"{told['smtp_host']}:{told['smtp_port']}"
    found = []
    if not await _answers(told["smtp_host"], told["smtp_port"]):
        step = "are REGULARS_SMTP_HOST and _PORT, as set here, your relay's? Until it answers messages wait"
        found.append(Finding("mail", "warning", f"no relay answers at {relay}", step))
    if told["mail_from"].endswith(".example"):
        found.append(
            Finding("mail", "warning", f"it comes from {told['mail_from']}", "REGULARS_MAIL_FROM: one of yours")
        )
    if _is_this_machine(told["public_url"]):
        step = "REGULARS_PUBLIC_URL: where shops and customers reach this installation"
        found.append(Finding("mail", "warning", f"its links lead to {told['public_url']}", step))
    if not told["postal_address"]:
        step = "REGULARS_POSTAL_ADDRESS, or each store's `postal_address`: many countries' law asks for it"
        found.append(Finding("mail", "warning", "it names no postal address where a store has none", step))
    return found or [Finding("mail", "ok", f"{relay} answers")]


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(RELAY_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except (OSError, TimeoutError):
        return False
    return True


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def disk(ground: Ground) -> list[Finding]:
    """Room in the data folder, which an embedded database needs for what it answers 200 to."""
    folder = _existing(ground.data_dir)
    total, _, free = shutil.disk_usage(folder)
    told = f"{free / 1024**3:.1f} GiB free of {total / 1024**3:.1f} at {folder}"
    step = "make room or a larger volume: with a full disk webhooks are answered 503"
    if free < min(EMPTY_SHARE * total, EMPTY_BYTES):
        return [Finding("disk", "failed", told, step)]
    if free < min(LOW_SHARE * total, LOW_BYTES):
        return [Finding("disk", "warning", told, step)]
    return [Finding("disk", "ok", told)]


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
