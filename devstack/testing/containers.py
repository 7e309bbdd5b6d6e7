"""The relay's image with Testcontainers: ``HybridgeContainer``. Wants the extra ``testcontainers``.

    with HybridgeContainer("hybridge:local").with_hybrid_connection("orders") as relay:
        listen = relay.listen_connection_string("orders")
        ca = relay.save_ca(tmp_path / "ca.pem")

Build the image from the repository: ``docker build --target programs --tag hybridge:local .``
"""

from __future__ import annotations

import base64
import enum
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hybridge.protocol.connection_string import ConnectionString, serialize
from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.secret import Secret
from relay.configuration import AZURE_DOMAIN, check_namespace_name, check_path

try:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import HttpWaitStrategy
except ImportError as error:
    error.add_note("hint: python -m pip install 'hybridge[testcontainers]'")
    raise

IMAGE = "hybridge:local"
"""What docker-compose.yml builds."""

PORT = 443
"""The relay's port in the container: what every SDK takes where the connection string has none."""

ADMIN_PORT = 5300
"""Port of ``/health`` and ``/metrics`` in the container."""

CONFIG = "/tmp/relay.json"  # noqa: S108 - in the container
STATE_DIR = "/var/lib/hybridge"

START_SECONDS = 60.0
"""How long the container may take to answer ``/health``."""

_KEY_BYTES = 32
_ROOT = "RootManageSharedAccessKey"
_LISTENER = "defaultListener"
_SENDER = "defaultSender"


class Caller(enum.Enum):
    """Who gets a connection string."""

    LOCALHOST = "localhost"
    """A program beside Docker, such as the test itself: by the published port."""

    NETWORK = "network"
    """Another container of the same Docker network: by the namespace's name, port 443."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _HybridConnection:
    name: str
    target: str | None
    requires_client_authorization: bool
    listen_key: str = field(repr=False)
    send_key: str = field(repr=False)

    def to_fields(self) -> dict[str, object]:
        fields: dict[str, object] = {
            "Name": self.name,
            "RequiresClientAuthorization": self.requires_client_authorization,
            "AuthorizationRules": [
                _rule(_LISTENER, ["Listen"], self.listen_key),
                _rule(_SENDER, ["Send"], self.send_key),
            ],
        }
        return fields if self.target is None else {**fields, "Endpoint": self.target}


class HybridgeContainer(DockerContainer):
    """A relay in a container, with one namespace and keys of its own. Ready when it has started.

    Args:
        image: Name and tag of the image.
        namespace: Name of the namespace: 6 to 50 letters, digits and hyphens.
        options: What `testcontainers.core.container.DockerContainer` takes.

    Raises:
        InvalidSetting: The name is none.
    """

    def __init__(self, image: str = IMAGE, *, namespace: str = "demo-ns", **options: Any) -> None:
        self.namespace = check_namespace_name(namespace, setting="namespace")
        self._root_key = _new_key()
        self._hybrid_connections: dict[str, _HybridConnection] = {}
        super().__init__(image, **options)
        self.with_command(["hybridge-relay", "--config", CONFIG])
        self.with_envs(
            HYBRIDGE_RELAY_HOST="0.0.0.0",  # noqa: S104 - in the container
            HYBRIDGE_RELAY_PORT=str(PORT),
            HYBRIDGE_RELAY_ADMIN_HOST="0.0.0.0",  # noqa: S104 - in the container
            HYBRIDGE_RELAY_ADMIN_PORT=str(ADMIN_PORT),
            HYBRIDGE_RELAY_STATE_DIR=STATE_DIR,
        )
        self.with_exposed_ports(PORT, ADMIN_PORT)
        # The image's user is not root.
        self.with_kwargs(sysctls={"net.ipv4.ip_unprivileged_port_start": "0"})
        health = HttpWaitStrategy(ADMIN_PORT, "/health").for_status_code(200)
        self.waiting_for(health.with_startup_timeout(int(START_SECONDS)))

    def with_hybrid_connection(
        self,
        name: str,
        target: str | None = None,
        *,
        requires_client_authorization: bool = True,
    ) -> Self:
        """Add a hybrid connection; before the start.

        Args:
            name: Its name.
            target: ``HOST:PORT`` that agents find in its metadata.
            requires_client_authorization: Whether senders need a token.

        Raises:
            InvalidSetting: The name is none, or taken.
        """
        check_path(name, setting="name")
        if name.lower() in self._hybrid_connections:
            raise InvalidSetting("name", f"{name!r} is taken", hint="choose another")
        self._hybrid_connections[name.lower()] = _HybridConnection(
            name=name,
            target=target,
            requires_client_authorization=requires_client_authorization,
            listen_key=_new_key(),
            send_key=_new_key(),
        )
        return self

    @property
    def host(self) -> str:
        """Host name of the namespace, and the container's name in its Docker network."""
        return f"{self.namespace.lower()}.{AZURE_DOMAIN}"

    @property
    def connect_to(self) -> tuple[str, int]:
        """Host and port where the relay is reached from beside Docker."""
        return self.get_container_host_ip(), self.get_exposed_port(PORT)

    @property
    def health_url(self) -> str:
        """Where the relay says how it is, from beside Docker."""
        return f"http://{self.get_container_host_ip()}:{self.get_exposed_port(ADMIN_PORT)}/health"

    def connection_string(self, caller: Caller = Caller.LOCALHOST) -> str:
        """Give the one that may do everything in the namespace."""
        return self._connection_string(None, _ROOT, self._root_key, caller)

    def listen_connection_string(self, name: str, caller: Caller = Caller.LOCALHOST) -> str:
        """Give that of a listener.

        Raises:
            InvalidSetting: There is no such hybrid connection.
        """
        found = self._find(name)
        return self._connection_string(found.name, _LISTENER, found.listen_key, caller)

    def send_connection_string(self, name: str, caller: Caller = Caller.LOCALHOST) -> str:
        """Give that of a sender.

        Raises:
            InvalidSetting: There is no such hybrid connection.
        """
        found = self._find(name)
        return self._connection_string(found.name, _SENDER, found.send_key, caller)

    def save_ca(self, path: Path) -> Path:
        """Write the certificate that clients must trust to a file; give its path."""
        self.copy_from_container(f"{STATE_DIR}/ca.pem", path)
        return path

    def _find(self, name: str) -> _HybridConnection:
        found = self._hybrid_connections.get(name.lower())
        if found is None:
            hint = f"add it before the start: with_hybrid_connection({name!r})"
            raise InvalidSetting("name", f"there is no hybrid connection {name!r}", hint=hint)
        return found

    def _connection_string(self, path: str | None, key_name: str, key: str, caller: Caller) -> str:
        host, port = (self.host, PORT) if caller is Caller.NETWORK else self.connect_to
        return serialize(
            ConnectionString(host=host, port=port, path=path, key_name=key_name, key=Secret(key))
        )

    def _configure(self) -> None:
        if self._network is not None:
            self.with_network_aliases(self.host, *(self._network_aliases or ()))
        self.with_copy_into_container(json.dumps(self._document()).encode(), CONFIG)

    def _document(self) -> dict[str, object]:
        hosts = dict.fromkeys(
            [self.host, "localhost", "127.0.0.1", self.get_docker_client().host()]
        )
        namespace = {
            "Name": self.namespace,
            "Hosts": list(hosts),
            "AuthorizationRules": [_rule(_ROOT, ["Listen", "Send", "Manage"], self._root_key)],
            "HybridConnections": [each.to_fields() for each in self._hybrid_connections.values()],
        }
        return {"UserConfig": {"Namespaces": [namespace]}}


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def _rule(name: str, rights: list[str], key: str) -> dict[str, object]:
    return {"Name": name, "Rights": rights, "PrimaryKey": key, "SecondaryKey": _new_key()}
