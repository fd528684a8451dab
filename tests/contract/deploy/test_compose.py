"""docker-compose.yml, read: what holds of every container, without Docker."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from libs.common.heap import GIVES_BACK
from regulars.parts import settings_classes
from tests.contract.deploy.outward import outward

ROOT = Path(__file__).parents[3]
SERVICES = ("ingest", "profiles", "metrics", "messaging")
JOBS = {"migrate"}
SHOWN = {"gateway", "grafana", "mail"}
"""What is reached from the machine itself. Nothing is reached from others."""
FILES = ("docker-compose.yml", "deploy/compose.demo.yml")


def read(name: str) -> dict[str, Any]:
    document = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


SERVICE = [(name, service) for name, service in read("docker-compose.yml")["services"].items()]
every_service = pytest.mark.parametrize(("name", "service"), SERVICE, ids=[name for name, _ in SERVICE])


def test_every_role_has_its_container() -> None:
    commands = {name: service.get("command") for name, service in SERVICE}
    for service in SERVICES:
        assert commands[f"{service}-api"] == ["serve", service]
        assert commands[f"{service}-worker"] == ["work", service]
    assert commands["relay"] == ["relay"]
    assert commands["migrate"] == ["migrate"]


@every_service
def test_health_or_a_job(name: str, service: dict[str, Any]) -> None:
    if name in JOBS:
        assert service["restart"].startswith("on-failure")
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD", "no shell between Docker and the check"
        assert {"interval", "timeout", "start_period", "retries"} <= service["healthcheck"].keys()


@every_service
def test_limits_and_a_bounded_log(name: str, service: dict[str, Any]) -> None:
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory"} <= limits.keys(), name
    assert service["logging"]["options"]["max-size"], name


@every_service
def test_only_what_people_look_at_is_published_and_only_on_this_machine(name: str, service: dict[str, Any]) -> None:
    ports = service.get("ports", [])
    assert bool(ports) == (name in SHOWN)
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_who_asks_shops_or_mails_gets_outside_and_nobody_else_of_ours() -> None:
    networks = read("docker-compose.yml")["networks"]
    outside = {name for name, network in networks.items() if not (network or {}).get("internal")}
    out = {
        name
        for name, service in SERVICE
        if "REGULARS_LOG" in service.get("environment", {}) and outside & {*service["networks"]}
    }
    assert out >= outward().keys() >= {"ingest-api", "ingest-worker", "messaging-worker"}
    # The gateway's network, which the APIs have to be in, is the same.
    assert out - outward().keys() <= {f"{service}-api" for service in SERVICES}


@every_service
def test_nothing_keeps_it_from_being_scaled(name: str, service: dict[str, Any]) -> None:
    assert "container_name" not in service, name
    assert "hostname" not in service, name


@every_service
def test_ours_write_nowhere_and_may_do_nothing(name: str, service: dict[str, Any]) -> None:
    if "REGULARS_LOG" in service.get("environment", {}):
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "user" not in service, "the image's own, who is not root"
        assert service["depends_on"]["postgres"] == {"condition": "service_healthy"}
        if name != "migrate":
            assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


@every_service
def test_the_image_is_pinned(name: str, service: dict[str, Any]) -> None:
    _, _, tag = service["image"].rpartition(":")
    assert tag, name
    assert tag != "latest", name


def test_secrets_are_files_that_are_made_here() -> None:
    document = read("docker-compose.yml")
    made = (ROOT / "deploy/secrets.sh").read_text(encoding="utf-8")
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/.env", "/secrets/"} <= set(ignored)
    for name, secret in document["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
        assert re.search(rf"^secret {name} ", made, re.MULTILINE), name
    used = {secret for _, service in SERVICE for secret in service.get("secrets", [])}
    assert used == document["secrets"].keys()


@pytest.mark.parametrize("file", FILES)
def test_no_secret_in_it(file: str) -> None:
    for name, service in read(file)["services"].items():
        for variable, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|SECRET|KEY|DATABASE_URL", variable):
                assert variable.endswith("_FILE"), f"{name}: {variable}"
                assert str(value).startswith("/run/secrets/"), f"{name}: {variable}"


@pytest.mark.parametrize("file", FILES)
def test_every_setting_is_one(file: str) -> None:
    known = {f"REGULARS_{field}".upper() for settings in settings_classes() for field in settings.model_fields}
    for name, service in read(file)["services"].items():
        for variable in service.get("environment") or {}:
            if variable.startswith("REGULARS_"):
                assert variable.removesuffix("_FILE") in known, f"{name}: {variable}"


def test_prometheus_asks_every_role() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    asked = {name for job in config["scrape_configs"] for sd in job.get("dns_sd_configs", []) for name in sd["names"]}
    roles = {name for name, service in SERVICE if "REGULARS_LOG" in service.get("environment", {})}
    assert asked == roles - JOBS


def test_the_demo_drives_every_role() -> None:
    demo = read("deploy/compose.demo.yml")["services"]
    driven = {name for name, service in demo.items() if "REGULARS_CLOCK_PATH" in service.get("environment", {})}
    assert driven == {f"{service}-{role}" for service in SERVICES for role in ("api", "worker")} | {"demo"}


def test_large_values_go_back_to_the_system() -> None:
    for name, value in GIVES_BACK.items():
        assert dict(SERVICE)["postgres"]["environment"][name] == value
        assert f"ENV {name}={value}\n" in (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
