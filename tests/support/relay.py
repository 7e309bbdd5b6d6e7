"""A relay on free ports, in the test's own event loop."""

from __future__ import annotations

import asyncio
import atexit
import functools
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hybridge.program.lifetime import Lifetime
from hybridge.protocol.claims import Claim
from hybridge.protocol.connection_string import ConnectionString, serialize
from hybridge.protocol.sas import resource_of, sign
from hybridge.protocol.secret import Secret
from hybridge.protocol.user_metadata import serialize_target
from hybridge.transport.development_ca import DevelopmentCa
from hybridge.transport.listening import bound_address, open_sockets
from relay.namespace import AuthorizationRule, HybridConnection, Namespace
from relay.service import Service
from relay.settings import RelaySettings

HOST = "ns1.servicebus.windows.net"
"""The namespace's name in tests; reached by connect-to."""

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SECOND_KEY = "c2Vjb25kLXNlY29uZC1zZWNvbmQtc2Vjb25kLTEyMzQ="
LAST_EXPIRY = 4_000_000_000


def rule(
    name: str, claims: Claim, *, key: str = KEY, second: str = SECOND_KEY
) -> AuthorizationRule:
    return AuthorizationRule(
        name=name, claims=claims, primary_key=Secret(key), secondary_key=Secret(second)
    )


def hybrid_connection(
    name: str = "hc1",
    *,
    requires_client_authorization: bool = True,
    target: tuple[str, int] | None = ("db.corp.local", 5432),
    rules: Sequence[AuthorizationRule] | None = None,
) -> HybridConnection:
    if rules is None:
        rules = [rule("listenrule", Claim.LISTEN), rule("sendrule", Claim.SEND)]
    return HybridConnection(
        name=name,
        requires_client_authorization=requires_client_authorization,
        user_metadata="" if target is None else serialize_target(*target),
        rules={each.name.lower(): each for each in rules},
        created_at=1_767_225_600,
        updated_at=1_767_225_600,
    )


def namespace(
    *connections: HybridConnection, name: str = "ns1", hosts: Sequence[str] = (HOST, "localhost")
) -> Namespace:
    root = rule(
        "RootManageSharedAccessKey", Claim.LISTEN | Claim.SEND | Claim.MANAGE, key=KEY[::-1]
    )
    return Namespace(
        name=name,
        hosts=tuple(hosts),
        rules={root.name.lower(): root},
        hybrid_connections={
            each.name.lower(): each for each in connections or (hybrid_connection(),)
        },
    )


@functools.cache
def certificate() -> tuple[Path, Path, Path]:
    """Make one CA and server certificate for the whole test process; give certificate, key, CA."""
    folder = Path(tempfile.mkdtemp(prefix="hybridge-test-ca-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    ca = DevelopmentCa.load_or_create(folder)
    names = ["*.servicebus.windows.net", "localhost", "127.0.0.1", "::1"]
    return *ca.certificate_for(names), ca.path


@dataclass(kw_only=True)
class RunningRelay:
    """A relay that listens on 127.0.0.1."""

    service: Service
    port: int
    lifetime: Lifetime = field(repr=False)
    served: asyncio.Task[None] = field(repr=False)
    host: str = HOST

    @property
    def ca(self) -> Path:
        return certificate()[2]

    @property
    def connect_to(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def token(
        self,
        path: str = "hc1",
        *,
        key_name: str = "sendrule",
        key: str = KEY,
        expires_at: int = LAST_EXPIRY,
        host: str = HOST,
    ) -> str:
        """Sign a token as the .NET SDK would."""
        return sign(resource_of(host, path), key_name=key_name, key=key, expires_at=expires_at)

    def connection_string(
        self, path: str = "hc1", *, key_name: str = "sendrule", key: str = KEY
    ) -> str:
        return serialize(ConnectionString(host=HOST, path=path, key_name=key_name, key=Secret(key)))

    async def stop(self) -> None:
        self.lifetime.stopping.set()
        await self.served


@asynccontextmanager
async def running_relay(
    *namespaces: Namespace, settings: RelaySettings | None = None, port: int = 0
) -> AsyncIterator[RunningRelay]:
    """Run a relay for the length of a block; at the end it is stopped, and nothing may be left."""
    sockets = open_sockets("127.0.0.1", port, flag="--port")
    cert, key, _ = certificate()
    service = Service(
        settings or RelaySettings(drain_seconds=0.0), namespaces or (namespace(),), (cert, key)
    )
    lifetime = Lifetime()
    with ExitStack() as opened:
        for sock in sockets:
            opened.callback(sock.close)
        async with asyncio.TaskGroup() as tasks:
            served = tasks.create_task(service.serve(sockets, lifetime), name="relay under test")
            yield RunningRelay(
                service=service, port=bound_address(sockets[0])[1], lifetime=lifetime, served=served
            )
            lifetime.stopping.set()
