"""The command line of ``hybridge doctor``: what it is given, what it prints, how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from devstack.cli import PROGRAM, cli
from devstack.doctor.paper import Paper
from tests.support.agent_ends import free_port
from tests.support.chain import write_private
from tests.support.command import exit_code_of
from tests.support.examined import agent, listen_string
from tests.support.relay import HOST, KEY, SECOND_KEY, RunningRelay

Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def run(
    relay: RunningRelay,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Run:
    """Run ``hybridge doctor``; give exit code, output and errors. No secret is ever in them."""
    for name in os.environ:
        if name.startswith(("HYBRIDGE_", "HCM_", "APP_CLIENT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "no-service"))
    monkeypatch.setenv("HYBRIDGE_CA", str(relay.ca))
    monkeypatch.setenv("HYBRIDGE_CONNECT_TO", f"127.0.0.1:{relay.port}")

    async def run(*args: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(exit_code_of, cli, PROGRAM, "doctor", *args)
        output, errors = capsys.readouterr()
        for secret in (KEY, SECOND_KEY, KEY[:-4], "sig=", "Traceback"):
            assert secret not in output + errors
        return code, output, errors

    return run


async def test_the_exit_code_is_0_where_nothing_fails(relay: RunningRelay, run: Run) -> None:
    async with agent(relay):
        code, output, errors = await run("--connection-string", relay.connection_string())

    assert (code, errors) == (0, "")
    assert output.endswith("\n\nNothing stands in the way for a sender.\n")
    assert max(map(len, output.splitlines())) <= 80


async def test_the_exit_code_is_1_where_something_fails(relay: RunningRelay, run: Run) -> None:
    code, output, _ = await run("--connection-string", relay.connection_string())

    assert code == 1
    assert "\n\nCause: no-listener: no agent is connected\nNext: start one" in output


async def test_json_is_one_object_with_the_cause_and_every_finding(
    relay: RunningRelay, run: Run
) -> None:
    code, output, errors = await run("--json", "--connection-string", relay.connection_string())

    told = json.loads(output)
    (examination,) = told["examinations"]
    assert (code, errors, told["ok"]) == (1, "", False)
    assert examination["namespace"] == HOST
    assert examination["hybridConnection"] == "hc1"
    assert (examination["rule"], examination["role"]) == ("sendrule", "sender")
    assert examination["cause"] == "no-listener"
    found = {each["check"]: each for each in examination["findings"]}
    assert len(found) == len(examination["findings"]) == 13
    assert found["listeners"]["code"] == "no-listener"
    assert found["listeners"]["nextStep"]
    assert found["token"]["verdict"] == "ok"
    assert found["token"]["durationMs"] > 0


@pytest.mark.parametrize("key", [KEY[:-3], f"{KEY}x", KEY.lower()])
async def test_nothing_that_is_printed_shows_a_wrong_key(
    relay: RunningRelay, run: Run, key: str
) -> None:
    for args in ((), ("--json",)):
        text = relay.connection_string(key=key)
        code, output, errors = await run(*args, "--connection-string", text)

        assert code == 1
        assert key not in output + errors


async def test_of_several_each_is_examined(relay: RunningRelay, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        async with agent(relay):
            code, output, _ = await run(
                *("--connection-string", listen_string(relay)),
                *("--connection-string", relay.connection_string("bare")),
                *("--target", f"127.0.0.1:{target.getsockname()[1]}"),
            )

    assert code == 1
    assert output.count("connection string  of rule") == 2
    assert f"'hc1' at {HOST}:443, as listener: Nothing stands in the way for a listener." in output
    assert f"'bare' at {HOST}:443, as sender: Cause: no-listener" in output


async def test_a_round_trip_takes_both_strings(relay: RunningRelay, run: Run) -> None:
    both = ("--connection-string", relay.connection_string(key_name="nsrule"))
    _, output, _ = await run("--round-trip", *both, "--as", "sender")
    assert "round trip         made in " in output

    code, output, errors = await run(
        "--json", "--round-trip", "--connection-string", relay.connection_string()
    )
    assert code == 2
    assert "hybridge: error: --round-trip: needs the strings of a rule with Listen" in errors
    assert json.loads(output)["examinations"]


# --- what is examined -----------------------------------------------------------------------------


async def test_an_agents_file_brings_its_targets(
    relay: RunningRelay, run: Run, tmp_path: Path
) -> None:
    closed = free_port()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        entries: list[dict[str, object]] = [
            {"ConnectionString": listen_string(relay), "Target": f"127.0.0.1:{port}"},
            {
                "ConnectionString": listen_string(relay, "bare"),
                "AzBridge": {"db": f"127.0.0.1:{closed}", "dns": "udp://127.0.0.1:53"},
            },
            {
                "ConnectionString": listen_string(relay, "open"),
                "Target": f"http://127.0.0.1:{port}/api",
            },
            {
                "ConnectionString": relay.connection_string("bare", key_name="nsrule"),
                "AzBridge": {"dns": "udp://127.0.0.1:53"},
            },
        ]
        config = tmp_path / "agent.json"
        told = []
        for entry in entries:
            document = {"HybridConnections": [entry], "AllowTargets": ["*:*"]}
            write_private(config, document)
            _, output, _ = await run("--json", "--as", "listener", "--config", str(config))
            told += json.loads(output)["examinations"]

    assert [each["cause"] for each in told] == [None, "target-refuses", None, None]


async def test_a_clients_file_is_a_senders(relay: RunningRelay, run: Run, tmp_path: Path) -> None:
    entries: list[dict[str, str]] = [
        {"ConnectionString": listen_string(relay), "Listen": "127.0.0.1:0"},
        {"ConnectionString": f"Endpoint=sb://{HOST}/;EntityPath=open", "Endpoint": "db1:5432"},
    ]
    config = tmp_path / "client.json"
    found = []
    for entry in entries:
        write_private(config, {"HybridConnections": [entry]})
        _, output, _ = await run("--json", "--config", str(config))
        (told,) = json.loads(output)["examinations"]
        found.append((told["role"], told["cause"]))

    assert found == [("sender", "wrong-right"), ("sender", "no-listener")]


async def test_a_file_with_a_wrong_connection_string_is_examined(run: Run, tmp_path: Path) -> None:
    entries = [{"ConnectionString": f"hc://{HOST}/hc1", "Target": "127.0.0.1:1"}]
    config = write_private(tmp_path / "agent.json", {"HybridConnections": entries})
    code, output, _ = await run("--config", str(config))

    assert code == 1
    assert "Cause: biztalk-string" in output


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"HybridConnections": []}, "names no hybrid connection"),
        ({"UserConfig": {}}, "names no hybrid connection"),
        ([1], "names no hybrid connection"),
        ({"HybridConnections": [{"ConnectionString": "GOOD", "Goal": "a:1"}]}, "unknown key"),
    ],
)
async def test_a_file_that_cannot_be_used_is_two_lines(
    relay: RunningRelay, run: Run, tmp_path: Path, document: object, error: str
) -> None:
    text = json.dumps(document).replace("GOOD", listen_string(relay))
    config = write_private(tmp_path / "agent.json", json.loads(text))
    code, output, errors = await run("--config", str(config))

    assert (code, output) == (2, "")
    assert error in errors
    assert errors.count("\n") == 2


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((), "connection string: none is given"),
        (("--connection-string-file", "/nowhere"), "/nowhere: cannot be read"),
        (("--connection-string", "x", "--ca", "/nowhere"), "--ca: /nowhere: No such file"),
        (
            ("--connection-string", "x", "--config", "x"),
            "--config and a connection string stand side by side",
        ),
        (("--connection-string", "x", "--timeout", "0"), "no waiting time in seconds"),
        (("--connection-string", "x", "--timeout", "nan"), "no waiting time in seconds"),
        (("--connection-string", "x", "--timeout", "soon"), "no waiting time in seconds"),
        (("--connection-string", "x", "--target", "db"), "--target: 'db' has no port"),
        (("--connection-string", "x", "--proxy", "ftp://p"), "--proxy: ftp: no such kind"),
        (("--connection-string", "x", "--as", "agent"), "'agent' is not one of"),
    ],
)
async def test_a_wrong_command_line_is_two_lines(
    run: Run, args: tuple[str, ...], error: str
) -> None:
    code, output, errors = await run(*args)

    assert (code, output) == (2, "")
    assert error in errors
    assert errors.count("\n") == 2


async def test_what_hcm_add_stored_is_examined(
    relay: RunningRelay, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = tmp_path / "hybridge" / "hcm"
    state.mkdir(parents=True, mode=0o700)
    entry = {"ConnectionString": listen_string(relay), "Targets": [f"127.0.0.1:{relay.port}"]}
    write_private(state / "connections.json", {"Version": 1, "HybridConnections": [entry]})

    code, output, errors = await run("--json", "--state", str(state))

    (told,) = json.loads(output)["examinations"]
    assert (code, errors, told["role"], told["cause"]) == (0, "", "listener", None)
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    assert json.loads((await run("--json"))[1])["examinations"][0]["role"] == "listener"
    write_private(state / "connections.json", {"Version": 2})
    code, _, errors = await run()
    assert (code, errors.count("\n")) == (2, 2)


async def test_a_target_that_the_allow_list_has_not(
    relay: RunningRelay, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"127.0.0.1:{relay.port}"
    document = {
        "HybridConnections": [{"ConnectionString": listen_string(relay), "Target": target}],
        "AllowTargets": ["*.corp.local:5432"],
    }
    config = write_private(tmp_path / "agent.json", document)

    code, output, _ = await run("--config", str(config))
    assert code == 1
    assert (
        f"Cause: target-not-allowed: The agent's allow-list does not have the target {target}."
        in output
    )
    monkeypatch.setenv("HCM_ALLOW_TARGET", f"*:1-9\n127.0.0.0/8:{relay.port}")
    assert (await run("--config", str(config)))[0] == 0


async def test_a_proxy_of_the_environment_that_cannot_be_used_is_two_lines(
    relay: RunningRelay, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy.corp.local")
    args = ("--connection-string", relay.connection_string(), "--connect-to", "192.0.2.1:443")
    code, output, errors = await run(*args)

    assert (code, output, errors.count("\n")) == (2, "", 2)
    assert "HTTPS_PROXY: ftp: no such kind of proxy" in errors


async def test_what_the_agent_has_in_its_environment_is_examined(
    relay: RunningRelay, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "listen"
    file.write_text(f"# the agent's\n{listen_string(relay)}\n")
    file.chmod(0o600)
    monkeypatch.setenv("HCM_CONNECTION_STRING_FILE", str(file))
    monkeypatch.setenv("HCM_TARGET", f"db/127.0.0.1:{relay.port}")
    monkeypatch.setenv("HCM_CA", str(relay.ca))
    monkeypatch.delenv("HYBRIDGE_CA")

    code, output, _ = await run()

    assert code == 0
    assert f"127.0.0.1:{relay.port} accepts connections from here" in output


async def test_what_is_typed_counts_and_not_the_environment(
    relay: RunningRelay, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entries = [{"ConnectionString": relay.connection_string("bare")}]
    config = write_private(tmp_path / "client.json", {"HybridConnections": entries})
    monkeypatch.setenv("HYBRIDGE_CONNECTION_STRING", relay.connection_string("open"))
    monkeypatch.setenv("HYBRIDGE_CONFIG", "/nowhere")

    assert "'open'" in (await run())[1]
    assert "'bare'" in (await run("--config", str(config)))[1]
    assert "'hc1'" in (await run("--connection-string", relay.connection_string()))[1]


# --- how it looks ---------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A terminal that knows what its encoding says."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override] # a plain attribute there
        return self._encoding

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("encoding", "no_color", "ok", "failed"),
    [
        ("utf-8", False, " \x1b[32m✓\x1b[0m  dns", " \x1b[31m✗\x1b[0m  tcp"),
        ("UTF8", True, " ✓  dns", " ✗  tcp"),
        ("ascii", True, " ok    dns", " FAIL  tcp"),
    ],
)
async def test_a_terminal_gets_what_it_knows(
    relay: RunningRelay, monkeypatch: pytest.MonkeyPatch, run: Run,
    encoding: str, no_color: bool, ok: str, failed: str,
) -> None:  # fmt: skip
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal(encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    await run(
        *("--connection-string", relay.connection_string().replace("sendrule", "r\u00e8gle")),
        *("--connect-to", f"127.0.0.1:{free_port()}"),
    )

    text = terminal.getvalue()
    assert ("of rule 'r\\xe8gle'" if encoding == "ascii" else "of rule 'r\u00e8gle'") in text
    assert ok in text
    assert failed in text
    assert encoding != "ascii" or text.isascii()


def test_without_a_standard_output_nothing_is_printed() -> None:
    Paper(None).line("whatever")  # Python has None where a shell has closed it.
