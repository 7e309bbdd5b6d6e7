"""What does not work is said, with the next step; what can pass is tried again."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from devstack.programs import Program
from tests.support.chain import (
    DEADLINE_SECONDS,
    HYBRID_CONNECTION,
    RelayProcess,
    check_output,
    is_reset,
    quiet_port,
    relay_document,
    running,
    running_relay_process,
    target_socket,
    wait_for,
    write_private,
)

WRONG_KEY = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3JvbmctMTI="


def endpoint_of(target: socket.socket) -> str:
    host, port = target.getsockname()
    return f"{host}:{port}"


@pytest.fixture(scope="module")
def target() -> Iterator[socket.socket]:
    with target_socket() as listening:
        yield listening


@pytest.fixture(scope="module")
def relay(
    target: socket.socket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RelayProcess]:
    """A relay that every test leaves as it was."""
    names = [HYBRID_CONNECTION, "stock"]
    with running_relay_process(
        tmp_path_factory.mktemp("relay"), dict.fromkeys(names, endpoint_of(target))
    ) as running_relay:
        yield running_relay


def broken_strings(relay: RelayProcess, rule: str) -> dict[str, str]:
    """By hybrid connection: one with a wrong key, one that is unknown, one at a wrong host."""
    root = relay.connection_string("RootManageSharedAccessKey", "namespace")
    elsewhere = relay.connection_string(rule).replace("sb://localhost", "sb://wrong.corp.example")
    return {
        "stock": relay.connection_string(rule, "stock", key=WRONG_KEY),
        "nowhere": f"{root};EntityPath=nowhere",
        "elsewhere": elsewhere.replace(f"EntityPath={HYBRID_CONNECTION}", "EntityPath=elsewhere"),
    }


EXPECTED = {
    "stock": ("invalid signature", "key"),
    "nowhere": ("404", "name"),
    "elsewhere": ("wrong.corp.example", "ca"),
}
"""By hybrid connection: what the error says, and what the hint."""


def answers(port: int, target: socket.socket) -> bool:
    """Whether a connection to a local port reaches the target."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS) as near,
        target.accept()[0] as far,
    ):
        near.sendall(b"hello")
        return far.recv(5) == b"hello"


def test_one_broken_hybrid_connection_leaves_the_others_alone(
    relay: RelayProcess, target: socket.socket
) -> None:
    settings = relay.agent_settings()
    broken = broken_strings(relay, "defaultListener")
    settings["HCM_CONNECTION_STRING"] += "\n" + "\n".join(broken.values())
    # The wrong host cannot be resolved: its way leads to the relay all the same.
    settings["HCM_CONNECT_TO"] = f"127.0.0.1:{relay.port}"
    secrets = [*relay.secrets, WRONG_KEY]
    with (
        running("hcm_agent", "run", settings=settings, secrets=secrets) as agent,
        running("app_client", "forward", settings=relay.client_settings()) as client,
    ):
        wait_for(agent, "online", hybrid_connection=HYBRID_CONNECTION)
        offline = {
            name: wait_for(agent, "offline", hybrid_connection=name, level="WARNING")
            for name in broken
        }
        port = int(wait_for(client, "listening").text("port"))

        assert answers(port, target)
        for name, (problem, step) in EXPECTED.items():
            assert problem in offline[name].text("error")
            assert step in offline[name].text("hint")


def test_one_broken_local_port_leaves_the_others_alone(
    tmp_path: Path, relay: RelayProcess, target: socket.socket
) -> None:
    broken = broken_strings(relay, "defaultSender")
    strings = [relay.connection_string("defaultSender"), *broken.values()]
    config = write_private(
        tmp_path / "client.json",
        {
            "HybridConnections": [
                {"ConnectionString": text, "Listen": "127.0.0.1:0"} for text in strings
            ]
        },
    )
    settings = {
        "APP_CLIENT_CONFIG": str(config),
        "APP_CLIENT_CA": str(relay.ca),
        "APP_CLIENT_CONNECT_TO": f"127.0.0.1:{relay.port}",
    }
    secrets = [*relay.secrets, WRONG_KEY]
    with (
        running("hcm_agent", "run", settings=relay.agent_settings()) as agent,
        running("app_client", "run", settings=settings, secrets=secrets) as client,
    ):
        wait_for(agent, "online")
        ports = {
            name: int(wait_for(client, "listening", hybrid_connection=name).text("port"))
            for name in (HYBRID_CONNECTION, *broken)
        }
        for name, (problem, step) in EXPECTED.items():
            assert is_reset(("127.0.0.1", ports[name]))
            refused = wait_for(client, "connection_refused", hybrid_connection=name)
            assert problem in refused.text("message")
            assert step in refused.text("hint")

        assert answers(ports[HYBRID_CONNECTION], target)


def test_a_relay_that_nobody_vouches_for_is_not_trusted(relay: RelayProcess) -> None:
    agent_settings, client_settings = relay.agent_settings(), relay.client_settings()
    del agent_settings["HCM_CA"], client_settings["APP_CLIENT_CA"]
    with (
        running("hcm_agent", "run", settings=agent_settings, secrets=relay.secrets) as agent,
        running("app_client", "forward", settings=client_settings, secrets=relay.secrets) as client,
    ):
        offline = wait_for(agent, "offline", level="WARNING")
        port = int(wait_for(client, "listening").text("port"))
        assert is_reset(("127.0.0.1", port))
        refused = wait_for(client, "connection_refused")

    for problem, hint in (
        (offline.text("error"), offline.text("hint")),
        (refused.text("message"), refused.text("hint")),
    ):
        assert "is not trusted" in problem
        assert "--ca" in hint


def test_agent_and_client_wait_for_a_relay_and_come_back_after_it_was_killed(
    tmp_path: Path,
) -> None:
    port = quiet_port()
    with target_socket("127.0.0.2") as target:
        endpoints = {HYBRID_CONNECTION: endpoint_of(target)}
        # Once, so that the keys are known; then it is gone.
        with running_relay_process(tmp_path, endpoints, port=port) as relay:
            agent_settings, client_settings = relay.agent_settings(), relay.client_settings()
        del client_settings["APP_CLIENT_LISTEN"]
        with (
            running("hcm_agent", "run", settings=agent_settings, secrets=relay.secrets) as agent,
            running(
                "app_client", "forward", settings=client_settings, secrets=relay.secrets
            ) as client,
        ):
            assert wait_for(agent, "offline").text("hint")
            assert wait_for(client, "waiting_for_relay").text("hint")

            with running_relay_process(tmp_path, endpoints, port=port) as relay:
                wait_for(agent, "online")
                local = int(wait_for(client, "listening").text("port"))
                assert local == target.getsockname()[1]
                assert answers(local, target)
                killed_at = agent.process.line_count
                os.kill(relay.program.process.pid, signal.SIGKILL)
                agent.wait_for_event("offline", since=killed_at, timeout_seconds=DEADLINE_SECONDS)

            with running_relay_process(tmp_path, endpoints, port=port):
                agent.wait_for_event("online", since=killed_at, timeout_seconds=DEADLINE_SECONDS)
                assert answers(local, target)


def wrong_start(
    module: str, *arguments: str, settings: Mapping[str, str]
) -> tuple[int, str, list[str]]:
    """Start a program that cannot run; give its exit code, all it wrote, and error and hint."""
    with running(module, *arguments, settings=settings) as program:
        code = program.process.wait(timeout_seconds=DEADLINE_SECONDS)
        text = whole_output(program)
    names = ("hybridge-relay: ", "hcm: ", "app-client: ")
    return code, text, [line for line in text.splitlines() if line.startswith(names)]


def whole_output(program: Program) -> str:
    program.process.stop()
    return "\n".join(program.process.lines_since(0))


LISTEN = (
    "Endpoint=sb://localhost:1/;SharedAccessKeyName=r;"
    f"SharedAccessKey={WRONG_KEY};EntityPath={HYBRID_CONNECTION}"
)


@pytest.mark.parametrize(
    ("module", "arguments", "settings", "code", "problem"),
    [
        ("relay", ["--prot", "1"], {}, 2, "No such option '--prot'"),
        ("relay", ["--config", "{folder}/typo.json"], {}, 2, "Namespaces[0].Nmae: unknown key"),
        ("relay", ["--port", "{taken}"], {}, 1, ":{taken} is in use"),
        ("relay", ["--state-dir", "{folder}/file/state"], {}, 1, "the directory cannot be made"),
        ("hcm_agent", ["run"], {}, 2, "none is configured"),
        (
            "hcm_agent",
            ["run", "--target", "db:1"],
            {"HCM_CONNECTION_STRING": f"{LISTEN}\n{LISTEN}2"},
            2,
            "one target does not fit 2 hybrid connections",
        ),
        (
            "hcm_agent",
            ["run"],
            {"HCM_CONNECTION_STRING": LISTEN.replace(";EntityPath", ";EntityPth")},
            2,
            "part 4 is not a known property",
        ),
        (
            "app_client",
            ["forward", "--ca", "{folder}/nowhere.pem"],
            {"APP_CLIENT_CONNECTION_STRING": LISTEN},
            2,
            "--ca: ",
        ),
        (
            "app_client",
            ["forward", "--listen", "127.0.0.1:{taken}"],
            {"APP_CLIENT_CONNECTION_STRING": LISTEN},
            1,
            "127.0.0.1:{taken} is in use",
        ),
    ],
)
def test_what_cannot_start_says_so_in_two_lines(
    tmp_path: Path,
    module: str,
    arguments: list[str],
    settings: dict[str, str],
    code: int,
    problem: str,
) -> None:
    (tmp_path / "file").touch()
    typo = relay_document({HYBRID_CONNECTION: "db:5432"})
    write_private(tmp_path / "typo.json", typo)
    text = (tmp_path / "typo.json").read_text().replace('"Name"', '"Nmae"', 1)
    (tmp_path / "typo.json").write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = {"folder": tmp_path, "taken": taken.getsockname()[1]}
        environment = {
            "HYBRIDGE_RELAY_PORT": "0",
            "HYBRIDGE_RELAY_ADMIN_PORT": "0",
            "XDG_STATE_HOME": str(tmp_path),
            **settings,
        }
        found, output, lines = wrong_start(
            module, *(each.format(**words) for each in arguments), settings=environment
        )

    assert found == code, output
    error, hint = lines
    assert ": error: " in error
    assert ": hint: " in hint
    assert problem.format(**words) in error
    check_output(output, [WRONG_KEY])


def test_a_client_that_must_ask_for_its_port_ends_with_1_where_asking_again_would_not_help(
    relay: RelayProcess,
) -> None:
    settings = relay.client_settings()
    del settings["APP_CLIENT_LISTEN"]
    settings["APP_CLIENT_CONNECTION_STRING"] = relay.connection_string(
        "defaultSender", key=WRONG_KEY
    )

    code, output, (error, hint) = wrong_start("app_client", "forward", settings=settings)

    assert code == 1, output
    assert "invalid signature" in error
    assert "check the key" in hint
    check_output(output, [WRONG_KEY, *relay.secrets])
