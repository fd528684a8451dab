"""Which roles open connections to the world outside, as their code has it."""

from functools import cache

import grimp

from regulars.schemas import SERVICES

CLIENTS = ("httpx", "aiosmtplib")
"""What talks to shops, to our own public address, and to mail relays."""


@cache
def outward() -> dict[str, set[str]]:
    """Role -> the clients that its code can reach. The relay's and everybody's own servers are inside."""
    graph = grimp.build_graph("services", "libs", include_external_packages=True, cache_dir=None)
    roles = {f"{service}-{kind}": f"services.{service}.{module}" for service in SERVICES for kind, module in KINDS}
    found = {
        role: {client for client in CLIENTS if graph.find_shortest_chain(importer=module, imported=client)}
        for role, module in roles.items()
    }
    return {role: clients for role, clients in found.items() if clients}


KINDS = (("api", "main"), ("worker", "work"))
