"""The relay as a process: what other programs rely on."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509

from tests.support.command import RunningProgram


@contextmanager
def relay_process(
    folder: Path, *args: str, environment: dict[str, str] | None = None
) -> Iterator[RunningProgram]:
    settings = {"HYBRIDGE_RELAY_PORT": "0", "HYBRIDGE_RELAY_ADMIN_PORT": "0"}
    program = RunningProgram(
        "relay", ("--state-dir", str(folder / "state"), *args), settings | (environment or {})
    )
    with program:
        yield program


def health(listening: dict[str, object]) -> tuple[int, object]:
    status, body = admin(listening, "/health")
    return status, json.loads(body)


def admin(listening: dict[str, object], path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(
        str(listening["admin_host"]), int(str(listening["admin_port"])), timeout=30
    )
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            return response.status, response.read()
    finally:
        connection.close()


def certificate_names(listening: dict[str, object], host: str = "127.0.0.1") -> set[str]:
    """Shake hands as Python 3.13 does, and give the names that the certificate is for."""
    context = ssl.create_default_context(cafile=str(listening["ca"]))
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    address = (host, int(str(listening["port"])))
    with (
        socket.create_connection(address, timeout=30) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return {str(name.value) for name in names.value}


def test_it_says_where_it_listens_and_is_healthy(tmp_path: Path) -> None:
    with relay_process(tmp_path, "--hybrid-connection", "orders-db=db:5432") as program:
        listening = program.event("listening")
        assert health(listening) == (200, {"status": "healthy"})

        assert listening == {
            "event": "listening",
            "addresses": [
                {"host": "127.0.0.1", "port": listening["port"]},
                {"host": "::1", "port": listening["port"]},
            ],
            "host": "127.0.0.1",
            "port": listening["port"],
            "admin_host": "127.0.0.1",
            "admin_port": listening["admin_port"],
            "ca": str(tmp_path / "state" / "ca.pem"),
            "namespaces": ["demo-ns"],
        }
        assert {"localhost", "*.servicebus.windows.net"} <= certificate_names(listening)
        assert certificate_names(listening, "::1")
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
    assert "Traceback" not in program.output


def test_a_loopback_address_may_be_chosen(tmp_path: Path) -> None:
    with relay_process(tmp_path, "--host", "127.0.0.2", "--admin-host", "::1") as program:
        listening = program.event("listening")
        assert listening["addresses"] == [{"host": "127.0.0.2", "port": listening["port"]}]
        assert listening["admin_host"] == "::1"
        assert health(listening)[0] == 200
        status, metrics = admin(listening, "/metrics")
        assert (status, b"\nprocess_open_fds " in metrics) == (200, True)


def write_config(path: Path, *names: str, hosts: tuple[str, ...] = ("localhost",)) -> None:
    namespace = {
        "Name": "demo-ns",
        "Hosts": list(hosts),
        "HybridConnections": [{"Name": name, "Endpoint": "db:5432"} for name in names],
    }
    path.write_text(json.dumps({"UserConfig": {"Namespaces": [namespace]}}))


def test_it_shares_the_ca_and_strings_with_the_port_it_took(tmp_path: Path) -> None:
    config, shared = tmp_path / "relay.json", tmp_path / "share"
    write_config(config, "orders-db")

    with relay_process(tmp_path, "--config", str(config), "--share-dir", str(shared)) as program:
        listening = program.event("listening")

    assert sorted(path.name for path in shared.iterdir()) == [
        "ca.pem",
        "demo-ns.namespace.RootManageSharedAccessKey.connection-string",
        "demo-ns.orders-db.defaultListener.connection-string",
        "demo-ns.orders-db.defaultSender.connection-string",
    ]
    text = (shared / "demo-ns.orders-db.defaultSender.connection-string").read_text()
    assert text.startswith(f"Endpoint=sb://localhost:{listening['port']}/;SharedAccessKeyName=")
    assert (shared / "ca.pem").read_text() == (tmp_path / "state" / "ca.pem").read_text()


def test_sighup_reloads_all_or_nothing(tmp_path: Path) -> None:
    config, shared = tmp_path / "relay.json", tmp_path / "share"
    write_config(config, "orders-db")

    with relay_process(tmp_path, "--config", str(config), "--share-dir", str(shared)) as program:
        listening = program.event("listening")
        config.write_text(config.read_text().replace('"Name"', '"Nmae"', 1))
        program.signal(signal.SIGHUP)
        refused = program.event("reload_refused")
        assert "Nmae: unknown key" in str(refused["message"])
        assert "did you mean 'Name'?" in str(refused["hint"])
        assert "relay.example.test" not in certificate_names(listening)
        assert len(list(shared.iterdir())) == 4

        write_config(config, "orders-db", "stock", hosts=("localhost", "relay.example.test"))
        program.signal(signal.SIGHUP)
        program.event("reloaded")
        assert "relay.example.test" in certificate_names(listening)
        assert health(listening) == (200, {"status": "healthy"})
        program.signal(signal.SIGTERM)
        assert program.wait() == 0

    assert len(list(shared.iterdir())) == 6
    assert "Traceback" not in program.output


def test_keys_stay_in_a_state_directory_that_is_for_the_relay_alone(tmp_path: Path) -> None:
    config = tmp_path / "relay.json"
    write_config(config, "orders-db")
    old_umask = os.umask(0)
    try:
        with relay_process(tmp_path, "--config", str(config)) as program:
            limits = program.event("limits")
            program.event("listening")
            program.signal(signal.SIGHUP)
            program.event("reloaded")
            command_line = Path(f"/proc/{program.process.pid}/cmdline")
            shown = command_line.read_text() if command_line.exists() else ""
            # Ctrl-C ends it in order, as SIGTERM does.
            program.signal(signal.SIGINT)
            assert program.wait() == 0
    finally:
        os.umask(old_umask)

    keys = json.loads((tmp_path / "state" / "keys.json").read_text())["keys"]
    texts = [row[name] for row in keys for name in ("primary_key", "secondary_key")]
    assert len(texts) == 6
    assert not [text for text in texts if text in program.output + shown]
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in [tmp_path / "state", *(tmp_path / "state").iterdir()]
    }
    assert modes.pop("ca.pem") == 0o644
    assert modes.pop("state") == 0o700
    assert set(modes) == {".lock", "ca-key.pem", "keys.json", "server.pem"}
    assert set(modes.values()) == {0o600}
    assert int(str(limits["max_connections"])) > 0


def test_a_second_relay_on_the_same_port_is_refused(tmp_path: Path) -> None:
    with relay_process(tmp_path) as first:
        port = str(first.event("listening")["port"])
        for flag in ("--port", "--admin-port"):
            with relay_process(tmp_path, flag, port) as second:
                assert second.wait() == 1

            error, hint = [line for line in second.lines if line.startswith("hybridge-relay: ")]
            assert f":{port} is in use" in error
            assert flag in hint
