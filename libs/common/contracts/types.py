"""Words that several contracts share."""

from typing import Literal, NewType

Tenant = NewType("Tenant", str)
Store = NewType("Store", str)
"""A store key, unique within a tenant: `st_…`."""
Account = NewType("Account", str)
"""One identity as one source knows it; see `services.profiles.identity.accounts` for the forms."""
Profile = NewType("Profile", str)
"""A set of accounts: the unified customer. A UUID."""

Platform = Literal["shopify", "woocommerce", "events"]
Origin = Literal["live", "backfill", "replayed", "reconciled"]
"""How an observation reached us. Only `live` ones may start messages."""
Channel = Literal["email", "sms", "push"]
PrivacyKind = Literal["data_request", "redact", "redact_store"]
"""A person's data are asked for, or a person's or a whole store's are to be gone."""
ConsentState = Literal["subscribed", "unsubscribed", "pending"]
