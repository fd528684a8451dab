"""Settings of messaging."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from libs.common.settings import CommonSettings

_SIGNED = r"([A-Za-z0-9._-]+:)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+"
SCHEMA = "messaging"
CONSUMER = "messaging"


class MessagingSettings(CommonSettings):
    """Through which relay mail leaves, and in whose name."""

    smtp_host: Annotated[str, Field(description="Mail relay.")] = "127.0.0.1"
    smtp_port: Annotated[int, Field(ge=1, le=65535, description="Port of the mail relay.")] = 25
    smtp_username: Annotated[str | None, Field(description="Name to log in with. Unset: no login.")] = None
    smtp_password: Annotated[SecretStr | None, Field(description="Password to log in with.")] = None
    smtp_tls: Annotated[
        Literal["none", "starttls", "tls"], Field(description="How the connection to the relay is encrypted.")
    ] = "none"
    smtp_timeout: Annotated[
        float,
        Field(gt=0, le=300, description="How long each SMTP command may take.", json_schema_extra={"unit": "s"}),
    ] = 20.0
    smtp_connections: Annotated[int, Field(ge=1, le=50, description="Connections to the relay, per worker.")] = 4
    mail_from: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$", description="Address that mail comes from."),
    ] = "shop@regulars.example"
    mail_domains: Annotated[
        str,
        Field(
            pattern=rf"^(({_SIGNED})([, ]+({_SIGNED}))*)?$",
            description="Domains that the relay signs for, separated by commas; one of another tenant than `default` "
            "as `tenant:domain`. A store of the tenant whose `email` is of it writes in its own name. For others mail "
            "comes from `mail_from`, and answers go to their `email`.",
        ),
    ] = ""
    postal_address: Annotated[
        str | None,
        Field(
            description="The merchant's name and postal address, in mails of stores that have none of their own. "
            "Unset: the store's name and domain."
        ),
    ] = None
    unsubscribe_mailto: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$",
            description="Address that also takes unsubscriptions, besides the link.",
        ),
    ] = None
    messaging_batch_size: Annotated[int, Field(ge=1, le=5000, description="Facts handled in one transaction.")] = 500
    timers_batch_size: Annotated[int, Field(ge=1, le=5000, description="Timers fired in one transaction.")] = 250
    send_batch_size: Annotated[
        int,
        Field(ge=1, le=1000, description="Messages claimed at a time; at most so many are in doubt if a worker dies."),
    ] = 32
    timers_seconds: Annotated[
        float,
        Field(gt=0, description="How often to look for due timers and messages.", json_schema_extra={"unit": "s"}),
    ] = 1.0
