"""What the Helm chart asks Kubernetes for: valid, safe by default, and in step with the code."""

import json
import re
from importlib import import_module
from typing import Any

import pytest
import yaml
from starlette.routing import Route
from typer.main import get_command

from libs.common.db import LONGEST_TRANSACTION
from libs.common.settings import PREFIX
from regulars.cli import app
from regulars.parts import settings_class, settings_classes
from regulars.schemas import SERVICES
from regulars.serving import DRAIN_SECONDS
from tests.contract.deploy import chart_settings, charting, watching
from tests.contract.deploy.charting import chosen, containers, of_kind, pods, rendered
from tests.contract.deploy.outward import outward

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="Kubernetes' schemas are not installed")

KUBERNETES = ("1.30", "1.37")
"""The oldest version that the chart takes, and the newest whose schemas we have."""
OF_OPERATORS = {"ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"}
"""Kinds that no Kubernetes has of its own."""
SECRET = re.compile(r"(PASSWORD|SECRET_KEY|ADMIN_KEY|DATABASE_URL)$")

cases = pytest.mark.parametrize("case", charting.CASES)


@cases
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_it(case: str, version: str) -> None:
    unknown = set()
    for document in rendered(case):
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            unknown.add(document["kind"])
    assert unknown <= OF_OPERATORS


@cases
def test_names_are_unique(case: str) -> None:
    names = [(document["kind"], document["metadata"]["name"]) for document in rendered(case)]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for _, name in names)


@cases
def test_every_role_is_there(case: str) -> None:
    roles = {f"{service}-{kind}" for service in SERVICES for kind in ("api", "worker")} | {"gateway"}
    if case != "default":
        roles.add("relay")
    found = {document["metadata"]["labels"]["app.kubernetes.io/component"] for document in of_kind(case, "Deployment")}
    assert found == roles


@cases
def test_no_container_may_more_than_it_must(case: str) -> None:
    for name, container in containers(case):
        security = container["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["privileged"] is False, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name


@cases
def test_no_pod_is_root_or_knows_kubernetes(case: str) -> None:
    for name, pod in pods(case):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert all("hostPath" not in volume for volume in spec["volumes"]), name
    assert all(account["automountServiceAccountToken"] is False for account in of_kind(case, "ServiceAccount"))


@cases
def test_images_are_pinned(case: str) -> None:
    for name, container in containers(case):
        image = container["image"].rpartition("/")[2]
        assert re.fullmatch(r"[^:@]+(:[\w.-]+|@sha256:[0-9a-f]{64})", image), name
        assert not image.endswith(":latest"), name


@cases
def test_requests_limits_and_probes(case: str) -> None:
    for name, container in containers(case):
        for amounts in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][amounts].keys(), name
        if name.endswith("-migrate"):
            continue
        assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}, name
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}, name


@cases
def test_there_is_time_to_drain(case: str) -> None:
    transaction = int(LONGEST_TRANSACTION.removesuffix("s"))
    for deployment in of_kind(case, "Deployment"):
        pod = deployment["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        waited = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        longest = transaction if pod["metadata"]["labels"]["regulars/kind"] in {"worker", "relay"} else DRAIN_SECONDS
        assert pod["spec"]["terminationGracePeriodSeconds"] > waited + longest


@cases
def test_no_secret_is_shown(case: str) -> None:
    assert of_kind(case, "Secret") == []
    for name, container in containers(case):
        for variable in container.get("env", ()):
            assert not SECRET.search(variable["name"]), name
            assert variable.keys() == {"name", "value"}, name


@cases
def test_every_named_file_is_mounted(case: str) -> None:
    for name, pod in pods(case):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for container in pod["spec"]["containers"]:
            mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
            for variable in container.get("env", ()):
                if variable["name"].endswith("_FILE"):
                    folder, _, file = variable["value"].rpartition("/")
                    volume = mounts[folder]
                    if "secret" in volume:
                        assert file in {item["path"] for item in volume["secret"]["items"]}, (name, variable)


@cases
def test_only_settings_that_something_reads(case: str) -> None:
    known = {f"{PREFIX}{field}".upper() for settings in settings_classes() for field in settings.model_fields}
    for name, container in containers(case):
        given = {variable["name"] for variable in container.get("env", ())}
        read = {variable for variable in given if variable in known or variable.removesuffix("_FILE") in known}
        assert given == read, name


@cases
def test_containers_run_commands_that_exist(case: str) -> None:
    commands = get_command(app).commands.keys()  # type: ignore[attr-defined]
    for name, container in containers(case):
        assert "command" in container or container["args"][0] in commands, name


@cases
def test_whatever_chooses_pods_finds_some(case: str) -> None:
    labels = [pod["metadata"]["labels"] for _, pod in pods(case)]
    deployments = {deployment["metadata"]["name"] for deployment in of_kind(case, "Deployment")}
    for document in rendered(case):
        spec: dict[str, Any] = document.get("spec", {})
        selector = {
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
        }.get(document["kind"])
        if selector is not None:
            assert sum(chosen(selector(spec), each) for each in labels) == 1, document["metadata"]["name"]
        if document["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}:
            assert spec["scaleTargetRef"]["name"] in deployments


@cases
def test_who_is_scaled_by_somebody_says_no_number(case: str) -> None:
    scaled = {
        document["spec"]["scaleTargetRef"]["name"]
        for document in of_kind(case, "HorizontalPodAutoscaler", "ScaledObject")
    }
    for deployment in of_kind(case, "Deployment"):
        assert ("replicas" in deployment["spec"]) is (deployment["metadata"]["name"] not in scaled)


@cases
def test_every_pod_is_behind_a_network_policy_and_may_be_evicted_one_at_a_time(case: str) -> None:
    for name, pod in pods(case):
        labels = pod["metadata"]["labels"]
        (policy,) = (
            policy["spec"]
            for policy in of_kind(case, "NetworkPolicy")
            if chosen(policy["spec"]["podSelector"]["matchLabels"], labels)
        )
        assert policy["policyTypes"] == ["Ingress", "Egress"], name
        budgets = [
            budget["spec"]["maxUnavailable"]
            for budget in of_kind(case, "PodDisruptionBudget")
            if chosen(budget["spec"]["selector"]["matchLabels"], labels)
        ]
        assert budgets == ([] if name.endswith("-migrate") else [1]), name


def test_only_the_gateway_is_open_to_all() -> None:
    for policy in of_kind("default", "NetworkPolicy"):
        gateway = policy["metadata"]["name"].endswith("-gateway")
        for rule in policy["spec"]["ingress"] or ():
            assert gateway or rule["from"], policy["metadata"]["name"]
    closed = charting.render({"networkPolicy": {"monitoringFrom": []}})
    for policy in closed:
        if policy["kind"] == "NetworkPolicy" and policy["metadata"]["name"].endswith("-worker"):
            assert not policy["spec"]["ingress"]


@cases
def test_who_asks_shops_or_mails_gets_outside_and_nobody_else(case: str) -> None:
    mail = charting.CASES[case].get("smtp", {}).get("port", 587)
    wanted = {"httpx": {443, 80}, "aiosmtplib": {mail}}
    outside = {port for ports in wanted.values() for port in ports}
    for policy in of_kind(case, "NetworkPolicy"):
        role = policy["metadata"]["labels"]["app.kubernetes.io/component"]
        open_to_all = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"] if "to" not in rule}
        expected = {port for client in outward().get(role, ()) for port in wanted[client]}
        assert open_to_all & outside == expected, role


def test_shops_may_be_narrowed_and_ingest_reaches_its_own_address() -> None:
    peers = [{"ipBlock": {"cidr": "203.0.113.0/24"}}]
    values = {"publicUrl": "https://regulars.example:8443", "networkPolicy": {"shopsTo": peers}}
    rules = {
        policy["metadata"]["labels"]["app.kubernetes.io/component"]: [
            [port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"] if rule.get("to") == peers
        ]
        for policy in charting.render(values)
        if policy["kind"] == "NetworkPolicy"
    }
    assert {role: ports for role, ports in rules.items() if ports} == {
        "ingest-api": [[443, 80, 8443]],
        "ingest-worker": [[443, 80, 8443]],
    }


@cases
def test_migrations_come_before_all_and_stand_on_nothing(case: str) -> None:
    (job,) = of_kind(case, "Job")
    hook = job["metadata"]["annotations"]
    assert hook["helm.sh/hook"] == "pre-install,pre-upgrade"
    (policy,) = (p["metadata"] for p in of_kind(case, "NetworkPolicy") if p["metadata"]["name"].endswith("-migrate"))
    assert policy["annotations"]["helm.sh/hook"] == hook["helm.sh/hook"]
    assert int(policy["annotations"]["helm.sh/hook-weight"]) < int(hook["helm.sh/hook-weight"])
    # "hook-succeeded" would take a policy away as soon as it is there.
    assert policy["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation"
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]
    own = {config["metadata"]["name"] for config in of_kind(case, "ConfigMap")}
    for volume in job["spec"]["template"]["spec"]["volumes"]:
        assert volume.get("configMap", {}).get("name") not in own


def test_workers_are_scaled_by_the_lag_of_their_own_consumer() -> None:
    scaled = {
        document["metadata"]["labels"]["app.kubernetes.io/component"]: document["spec"]["triggers"]
        for document in of_kind("kafka-keda", "ScaledObject")
    }
    assert scaled.keys() == {f"{service}-worker" for service in SERVICES}
    assert [trigger["type"] for trigger in scaled["ingest-worker"]] == ["prometheus"]
    assert {trigger["metadata"]["topic"] for trigger in scaled["metrics-worker"]} == {"customers", "messages"}


def test_keda_asks_kafka_as_the_workers_do() -> None:
    (login,) = (document["spec"] for document in of_kind("kafka-keda", "TriggerAuthentication"))
    given = {each["parameter"]: each for refs in login.values() for each in refs}
    assert given.keys() == {"username", "password", "ca"}
    assert given["password"]["name"] == "regulars-production"
    assert given["ca"] == {"parameter": "ca", "name": "kafka-ca", "key": "ca.crt"}
    for name, container in containers("kafka-keda"):
        if name.endswith("-worker"):
            assert container["name"] == given["username"]["containerName"]
            assert {"name": given["username"]["name"], "value": "regulars"} in container["env"]
    for scaled in of_kind("kafka-keda", "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            if trigger["type"] == "kafka":
                assert not {"username", "password", "ca"} & trigger["metadata"].keys()
                assert trigger["authenticationRef"]["name"].endswith("-kafka")


def test_scraped_pods_bear_the_labels_of_prometheus_own_file() -> None:
    (monitor,) = (document["spec"] for document in of_kind("kafka-keda", "PodMonitor"))
    config = yaml.safe_load((watching.DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "regulars")
    (endpoint,) = monitor["podMetricsEndpoints"]
    there = {rule["targetLabel"]: rule for rule in endpoint["relabelings"]}
    assert there["job"]["replacement"] == "regulars"
    for rule in job["relabel_configs"]:
        assert there[rule["target_label"]]["regex"] == rule["regex"]


def test_rules_and_dashboards_are_those_that_are_tested() -> None:
    (rules,) = (document["spec"]["groups"] for document in of_kind("kafka-keda", "PrometheusRule"))
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in watching.RULES]
    assert rules == [group for document in documents for group in document["groups"]]
    (boards,) = (c["data"] for c in of_kind("kafka-keda", "ConfigMap") if c["metadata"]["name"].endswith("-dashboards"))
    assert {name: json.loads(text) for name, text in boards.items()} == {
        f"{name}.json": board for name, board in watching.dashboards().items()
    }


def test_the_ingress_leads_to_the_gateway() -> None:
    assert of_kind("default", "Ingress") == []
    (ingress,) = (document["spec"] for document in of_kind("kafka-keda", "Ingress"))
    (rule,) = ingress["rules"]
    assert rule["host"] == "regulars.your-shop.example"
    assert ingress["tls"] == [{"hosts": [rule["host"]], "secretName": "regulars-tls"}]
    (path,) = rule["http"]["paths"]
    (gateway,) = (s for s in of_kind("kafka-keda", "Service") if s["metadata"]["name"].endswith("-gateway"))
    assert path["backend"]["service"]["name"] == gateway["metadata"]["name"]
    assert path["backend"]["service"]["port"]["name"] in {port["name"] for port in gateway["spec"]["ports"]}


def test_the_schema_knows_every_setting_that_is_no_secret() -> None:
    """`make docs` writes them."""
    assert json.loads(chart_settings.SCHEMA.read_text(encoding="utf-8")) == chart_settings.schema()
    known = chart_settings.names()
    assert "REGULARS_KAFKA_PREFIX" in known
    assert not [name for name in known if SECRET.search(name)]


def test_the_gateway_knows_every_route() -> None:
    (config,) = (c["data"]["nginx.conf"] for c in of_kind("default", "ConfigMap"))
    places = dict(re.findall(r"location (/\S+) \{[^}]*?proxy_pass http://(\w+);", config))
    assert config.count("{") == config.count("}")
    own = {"/livez", "/readyz", "/metrics", "/version", "/openapi.json"}
    for service in SERVICES:
        api = import_module(f"services.{service}.main").create_app(settings_class(service)())
        paths = {route.path for route in api.routes if isinstance(route, Route)} | set(api.openapi()["paths"])
        for path in paths - own:
            path = path.replace("{service}", service)  # noqa: PLW2901
            best = max((place for place in places if path.startswith(place)), key=len, default=None)
            assert best is not None, path
            assert places[best] == service, path


@pytest.mark.parametrize(
    "values",
    [
        {"image": {"repository": "regulars", "tag": "latest"}},
        {"settings": {"REGULARS_SMTP_PASSWORD": "hunter2"}},
        {"settings": {"REGULARS_SMPT_HOST": "mail.example"}},
        {"replicas": 3},
        {"services": {"ingest": {"wroker": {}}}},
        {"worker": {"terminationGracePeriodSeconds": 5}},
        {"worker": {"replicas": 9}},
        {"kafka": {"security": "TLS"}},
    ],
    ids=lambda values: next(iter(values)),
)
def test_values_that_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(charting.helm.HelmError):
        charting.render(values)


@pytest.mark.parametrize(
    "kafka", [{"enabled": True}, {"enabled": True, "servers": "k:9092", "security": "SASL_SSL", "username": "u"}]
)
def test_kafka_without_what_it_needs(kafka: dict[str, Any]) -> None:
    with pytest.raises(charting.helm.HelmError, match="kafka"):
        charting.render({"kafka": kafka})
