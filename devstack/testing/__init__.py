"""Relay, agent and client in one process, for tests of what talks through them.

In an event loop of your own::

    async with devstack.testing.relay() as relay:
        orders = await relay.hybrid_connection("127.0.0.1:5432")
        connection = await asyncpg.connect(host=orders.host, port=orders.port)

Or in a thread of its own, for drivers that block::

    with devstack.testing.background_relay() as relay, relay.namespace() as namespace:
        orders = namespace.hybrid_connection("127.0.0.1:5432")
        connection = psycopg.connect(host=orders.host, port=orders.port)

With pytest, take the fixtures instead (`devstack.pytest_plugin`). docs/testing.md tells it all.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devstack.testing.background import (
        BackgroundAgent,
        BackgroundHybridConnection,
        BackgroundNamespace,
        BackgroundRelay,
        HybridConnectionFactory,
        background_relay,
    )
    from devstack.testing.ends import Agent
    from devstack.testing.errors import Absent, Ended, LeaksFound, NotConnected
    from devstack.testing.hybrid_connection import HybridConnection
    from devstack.testing.leaks import Leak
    from devstack.testing.namespace import LEAK_SECONDS, Namespace
    from devstack.testing.own_relay import Relay, relay
    from relay.settings import RelaySettings

__all__ = [
    "LEAK_SECONDS",
    "Absent",
    "Agent",
    "BackgroundAgent",
    "BackgroundHybridConnection",
    "BackgroundNamespace",
    "BackgroundRelay",
    "Ended",
    "HybridConnection",
    "HybridConnectionFactory",
    "Leak",
    "LeaksFound",
    "Namespace",
    "NotConnected",
    "Relay",
    "RelaySettings",
    "background_relay",
    "relay",
]

# Imported at first use: pytest imports this package in projects that never need a relay.
_HOMES = {
    "Absent": "devstack.testing.errors",
    "Agent": "devstack.testing.ends",
    "BackgroundAgent": "devstack.testing.background",
    "BackgroundHybridConnection": "devstack.testing.background",
    "BackgroundNamespace": "devstack.testing.background",
    "BackgroundRelay": "devstack.testing.background",
    "Ended": "devstack.testing.errors",
    "HybridConnection": "devstack.testing.hybrid_connection",
    "HybridConnectionFactory": "devstack.testing.background",
    "LEAK_SECONDS": "devstack.testing.namespace",
    "Leak": "devstack.testing.leaks",
    "LeaksFound": "devstack.testing.errors",
    "Namespace": "devstack.testing.namespace",
    "NotConnected": "devstack.testing.errors",
    "Relay": "devstack.testing.own_relay",
    "RelaySettings": "relay.settings",
    "background_relay": "devstack.testing.background",
    "relay": "devstack.testing.own_relay",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
