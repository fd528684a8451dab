"""Kafka behind TLS and a password: what the settings name is what the clients do."""

from collections.abc import Iterator
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from libs.common.clock import SystemClock
from libs.common.contracts.topics import RELAYED
from libs.common.log.kafka import KafkaLog
from libs.common.log.kafka_client import Kafka, KafkaAway, KafkaRefuses
from libs.common.log.kafka_topics import check_topics, make_topics, partition_counts
from libs.common.settings import CommonSettings
from libs.common.telemetry import configure_logging
from regulars.local_kafka import LocalKafka, free_ports
from regulars.prepare import topics_fit
from tests.contract.logs import event, kafka_log
from tests.local_kafka import no_kafka

pytestmark = pytest.mark.kafka

LISTENERS = ("SASL_PLAINTEXT", "SASL_SSL", "SSL")
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
PASSWORD = "open sesame"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of its own authority for 127.0.0.1, and the same with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kafka of the tests")])
    now = SystemClock().now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=12))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    shown = made.public_bytes(Encoding.PEM)
    public, private = folder / "ca.pem", folder / "kafka.pem"
    public.write_bytes(shown)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + shown)
    return public, private


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalKafka, Path]]:
    if (reason := no_kafka()) is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("secured")
    public, private = certificate(folder)
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    login = f'{module} username="node" password="node" user_regulars="{PASSWORD}";'
    properties = {
        "sasl.enabled.mechanisms": ",".join(["PLAIN", *SCRAM]),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(private),
    }
    for listener in ("sasl_plaintext", "sasl_ssl"):
        properties[f"listener.name.{listener}.plain.sasl.jaas.config"] = login
        for mechanism in SCRAM:
            properties[f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config"] = (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            )
    users = [f'{mechanism}=[name="regulars",password="{PASSWORD}"]' for mechanism in SCRAM]
    with LocalKafka(folder / "kafka", secured=LISTENERS, properties=properties, scram=users) as kafka:
        yield kafka, public


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> CommonSettings:
    for name in CommonSettings.model_fields:
        monkeypatch.delenv(f"REGULARS_{name}".upper(), raising=False)
    for name, value in {"log": "kafka", **values}.items():
        monkeypatch.setenv(f"REGULARS_{name}".upper(), value)
    return CommonSettings()


@pytest.mark.parametrize(
    ("security", "mechanism"),
    [("SSL", None), *((listener, each) for listener in LISTENERS[:2] for each in ("PLAIN", *SCRAM))],
)
async def test_events_pass(
    security: str,
    mechanism: str | None,
    secured: tuple[LocalKafka, Path],
    empty_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from libs.common.contracts.topics import COMMERCE
    from libs.common.log.postgres import append

    cluster, ca = secured
    values = {
        "kafka_servers": cluster.servers(security),
        "kafka_security": security,
        "kafka_prefix": f"{security}-{mechanism}.".lower(),
    }
    if security.endswith("SSL"):
        values["kafka_ca_file"] = str(ca)
    if security.startswith("SASL"):
        (tmp_path / "password").write_text(f"{PASSWORD}\n")
        values |= {"kafka_username": "regulars", "kafka_password_file": str(tmp_path / "password")}
    if mechanism is not None:
        values["kafka_sasl_mechanism"] = mechanism
    kafka = Kafka.from_settings(settings(monkeypatch, **values))
    async with kafka_log(empty_database_url, kafka) as written:
        async with written.database.transaction() as tx:
            await append(tx, COMMERCE, [event("a"), event("b")])
        assert {record.key for record in await written.drain(COMMERCE)} == {"a", "b"}


@pytest.mark.parametrize("mechanism", ["PLAIN", *SCRAM])
@pytest.mark.parametrize("missing", ["password", "authority"])
async def test_without_the_right_secret_nothing_passes(
    missing: str, mechanism: str, secured: tuple[LocalKafka, Path]
) -> None:
    cluster, ca = secured
    kafka = Kafka(
        servers=(cluster.servers("SASL_SSL"),),
        security="SASL_SSL",
        mechanism=mechanism,
        username="regulars",
        password=PASSWORD if missing != "password" else "open",
        ca_file=ca if missing != "authority" else None,
    )
    told = "with .* as regulars" if missing == "password" else "CERTIFICATE_VERIFY_FAILED"
    with pytest.raises(KafkaRefuses, match=f"answers, and does not take SASL_SSL.*{told}"):
        await make_topics(kafka)


@pytest.mark.parametrize(("listener", "security"), [("PLAINTEXT", "SSL"), ("SSL", "PLAINTEXT")])
async def test_the_wrong_port_is_told_from_nobody(
    listener: str, security: str, secured: tuple[LocalKafka, Path]
) -> None:
    kafka = Kafka(servers=(secured[0].servers(listener),), security=security)
    with pytest.raises(KafkaRefuses, match=f"answers, and does not take {security}"):
        await make_topics(kafka)


async def test_nobody_is_nobody() -> None:
    with pytest.raises(KafkaAway) as caught:
        await make_topics(Kafka(servers=(f"127.0.0.1:{free_ports(1)[0]}",)))
    assert type(caught.value) is KafkaAway


@pytest.mark.parametrize("case", ["refused", "nobody"])
async def test_migrate_fails_only_on_what_somebody_has_to_mend(
    case: str, secured: tuple[LocalKafka, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    servers = secured[0].servers() if case == "refused" else f"127.0.0.1:{free_ports(1)[0]}"
    configure_logging("info")
    given = settings(monkeypatch, kafka_servers=servers, kafka_replication="2", kafka_prefix="copies.")
    if case == "nobody":
        await topics_fit(given, asked=True)
    else:
        with pytest.raises(SystemExit):
            await topics_fit(given, asked=True)
        await topics_fit(given)
    told = "".join(capsys.readouterr())
    assert ("InvalidReplicationFactorError" if case == "refused" else "Kafka is away") in told


async def test_a_look_makes_no_topics_where_kafka_makes_what_is_asked_for(tmp_path: Path) -> None:
    if (reason := no_kafka()) is not None:
        pytest.skip(reason)
    with LocalKafka(tmp_path, properties={"auto.create.topics.enable": "true"}) as cluster:
        kafka = Kafka(servers=(cluster.servers(),))
        log = KafkaLog(kafka)
        for look in (check_topics(kafka), log.read({("commerce", 0): 0}, 1, 0), log.end_offsets("commerce")):
            with pytest.raises(KafkaAway):
                await look
        await log.close()
        assert await partition_counts(kafka, RELAYED) == {}
        assert set(await make_topics(kafka)) == {topic.name for topic in RELAYED}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({}, "kafka_servers"),
        ({"kafka_servers": "somewhere"}, "kafka_servers"),
        ({"kafka_security": "SASL_SSL", "kafka_username": "me"}, "kafka_password"),
        ({"kafka_username": "me"}, "kafka_username"),
        ({"kafka_ca_file": __file__}, "kafka_ca_file"),
        ({"kafka_security": "SSL", "kafka_ca_file": "nowhere"}, "kafka_ca_file"),
        ({"kafka_security": "SSL", "kafka_ca_file": __file__}, "kafka_ca_file"),
        ({"kafka_servers": "k:1,127.0.0.1:1", "kafka_security": "SASL_PLAINTEXT"}, "kafka_sasl_mechanism"),
        ({"kafka_prefix": "a b"}, "kafka_prefix"),
        ({"kafka_replication": "0"}, "kafka_replication"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(
    wrong: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = wrong if named == "kafka_servers" else {"kafka_servers": "127.0.0.1:9092", **wrong}
    with pytest.raises(ValidationError) as caught:
        settings(monkeypatch, **given)
    assert (named,) in {error["loc"] for error in caught.value.errors()}
    with monkeypatch.context() as here:
        settings(here, kafka_servers="k:9092,[::1]:9093", kafka_security="SSL")
