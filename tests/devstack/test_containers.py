"""`HybridgeContainer`: what it asks a Docker engine for, and one real run where there is one.

The engine is scripted: it answers as Docker's API does, and where it would run the image, a relay
in this process runs what the container was given.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from testcontainers.core.config import ConnectionMode, testcontainers_config
from testcontainers.core.network import Network

from devstack.testing.containers import IMAGE, Caller, HybridgeContainer
from hybridge.listener import Listener
from hybridge.protocol.connection_string import parse
from hybridge.protocol.errors import InvalidSetting
from hybridge.sender import Sender
from relay.configuration import Sources, load

CONTAINER_ID = "c0ffee" * 10 + "cafe"
CA = b"-----BEGIN CERTIFICATE-----\n"
RELAY_PORT = 54_321


class Engine(ThreadingHTTPServer):
    """Docker's API, as far as it is asked for; and ``/health`` of the container."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.created: dict[str, object] = {}
        self.name = ""
        self.files: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.health = 200

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _answer(self) -> None:
        engine = self.server
        body = self._body()
        path = urlsplit(self.path).path
        path = path[path.index("/", 1) :] if path.startswith("/v1.") else path
        engine.calls.append(f"{self.command} {path}")
        match self.command, path:
            case "GET", "/version":
                self._send({"ApiVersion": "1.43", "MinAPIVersion": "1.24", "Version": "24.0"})
            case "GET", "/health":
                self._send({}, status=engine.health)
            case "POST", "/containers/create":
                engine.created = json.loads(body)
                self._send({"Id": CONTAINER_ID, "Warnings": []}, status=201)
            case "POST", "/networks/create":
                self._send({"Id": "n1", "Warning": ""}, status=201)
            case "GET", networks if networks.startswith("/networks/"):
                self._send({"Id": "n1", "Name": "net", "Containers": {}})
            case "PUT", archive if archive.endswith("/archive"):
                self._unpack(body)
                self._send({})
            case "GET", archive if archive.endswith("/archive"):
                [name] = parse_qs(urlsplit(self.path).query)["path"]
                self._send_bytes(_tar(name.rpartition("/")[2], CA))
            case "GET", inspect if inspect.endswith("/json"):
                self._send(self._container())
            case _:
                self._send({}, status=204)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def _unpack(self, data: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar.getmembers():
                if (file := tar.extractfile(member)) is not None:
                    self.server.files[member.name.lstrip("/")] = file.read()

    def _container(self) -> dict[str, object]:
        def published(port: int) -> list[dict[str, str]]:
            return [{"HostIp": "127.0.0.1", "HostPort": str(port)}]

        ports = {"443/tcp": published(RELAY_PORT), "5300/tcp": published(self.server.port)}
        return {
            "Id": CONTAINER_ID,
            "Name": "/relay",
            "State": {"Status": "running", "Running": True},
            "Config": {"Image": IMAGE, "Labels": {}},
            "Image": "sha256:1",
            "NetworkSettings": {"Ports": ports, "Networks": {"bridge": {"Gateway": "127.0.0.1"}}},
        }

    def _send(self, document: object, *, status: int = 200) -> None:
        self._send_bytes(b"" if status == 204 else json.dumps(document).encode(), status=status)

    def _send_bytes(self, data: bytes, *, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Docker-Container-Path-Stat", "e30=")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _tar(name: str, data: bytes) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return whole.getvalue()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with Engine() as server:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.port}")
        monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
        monkeypatch.setattr(
            testcontainers_config, "connection_mode_override", ConnectionMode.docker_host
        )
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_it_asks_for_a_relay_on_443_with_its_health_and_waits_for_it(engine: Engine) -> None:
    with HybridgeContainer().with_hybrid_connection("orders") as container:
        assert container.health_url == f"http://127.0.0.1:{engine.port}/health"

    created = engine.created
    assert created["Image"] == "hybridge:local"
    assert created["Cmd"] == ["hybridge-relay", "--config", "/tmp/relay.json"]  # noqa: S108
    environment = created["Env"]
    assert isinstance(environment, list)
    assert {"HYBRIDGE_RELAY_HOST=0.0.0.0", "HYBRIDGE_RELAY_PORT=443"} <= set(environment)
    host_config = created["HostConfig"]
    assert isinstance(host_config, dict)
    assert host_config["Sysctls"] == {"net.ipv4.ip_unprivileged_port_start": "0"}
    assert set(host_config["PortBindings"]) == {"443/tcp", "5300/tcp"}
    assert "GET /health" in engine.calls
    assert engine.calls[-1] == f"DELETE /containers/{CONTAINER_ID}"


def test_what_it_copies_into_the_container_is_a_configuration_with_the_keys_it_tells(
    engine: Engine, tmp_path: Path
) -> None:
    container = HybridgeContainer(namespace="contoso-ns")
    container.with_hybrid_connection("orders", "db:5432")
    container.with_hybrid_connection("open", requires_client_authorization=False)
    with container:
        listen = parse(container.listen_connection_string("Orders"))
        send = parse(container.send_connection_string("orders", Caller.NETWORK))
        root = parse(container.connection_string())

    path = tmp_path / "relay.json"
    path.write_bytes(engine.files["tmp/relay.json"])
    loaded = load(Sources(config=path, flags={"state_dir": tmp_path / "state"}), now=0.0)
    [namespace] = loaded.namespaces
    orders = namespace.hybrid_connections["orders"]
    assert orders.target_from_metadata == ("db", 5432)
    assert not namespace.hybrid_connections["open"].requires_client_authorization
    assert listen.key == orders.rules["defaultlistener"].primary_key
    assert send.key == orders.rules["defaultsender"].primary_key
    assert root.key == namespace.rules["rootmanagesharedaccesskey"].primary_key
    assert (listen.host, listen.port, listen.path) == ("127.0.0.1", RELAY_PORT, "orders")
    assert (send.host, send.port) == ("contoso-ns.servicebus.windows.net", 443)
    assert {listen.host, send.host} <= set(namespace.hosts)


def test_in_a_network_it_has_the_namespaces_name(engine: Engine) -> None:
    with Network() as network, HybridgeContainer().with_network(network):
        pass

    networking = engine.created["NetworkingConfig"]
    assert "demo-ns.servicebus.windows.net" in json.dumps(networking)


def test_the_certificate_comes_out_of_the_container(engine: Engine, tmp_path: Path) -> None:
    with HybridgeContainer() as container:
        path = container.save_ca(tmp_path / "ca.pem")

    assert path.read_bytes() == CA


def test_names_that_are_none_or_taken_or_unknown_are_refused(engine: Engine) -> None:
    container = HybridgeContainer().with_hybrid_connection("orders")

    with pytest.raises(InvalidSetting, match="is not a namespace name"):
        HybridgeContainer(namespace="x")
    with pytest.raises(InvalidSetting, match="'ORDERS' is taken"):
        container.with_hybrid_connection("ORDERS")
    with pytest.raises(InvalidSetting, match="there is no hybrid connection 'stock'"):
        container.listen_connection_string("stock")
    assert "PrimaryKey" not in repr(container)


async def test_bytes_go_through_a_real_container(tmp_path: Path) -> None:
    if not _has_image():
        pytest.skip(f"no Docker engine with the image {IMAGE} (docker build --target programs .)")

    with HybridgeContainer().with_hybrid_connection("orders") as container:
        ca = container.save_ca(tmp_path / "ca.pem")
        listen = container.listen_connection_string("orders")
        sender = Sender(container.send_connection_string("orders"), ca=ca)
        async with Listener(listen, ca=ca) as listener, asyncio.TaskGroup() as tasks:
            await listener.wait_online()
            connecting = tasks.create_task(sender.connect())
            far = await (await anext(listener)).accept()
            near = await connecting
            async with near, far:
                await near.send(b"hello")
                assert await far.receive() == b"hello"
                await near.send_eof()
                await far.send_eof()


def _has_image() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    command = [docker, "image", "inspect", IMAGE]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603
