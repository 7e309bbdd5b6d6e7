"""``hcm test``: what is tried, and what it says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hcm_agent.allow_list import parse_allow_list
from hcm_agent.cli import PROGRAM, cli
from hcm_agent.endpoint_test import RelayRoute, Trial, try_endpoint
from hybridge.protocol.errors import InvalidSetting
from hybridge.transport.names import Admit
from hybridge.transport.stream import Stream
from tests.support.agent_ends import Target, free_port
from tests.support.command import exit_code_of
from tests.support.relay import HOST, certificate, running_relay


async def test_a_target_is_connected_to_and_left() -> None:
    with Target() as target:
        trial = await try_endpoint(f"127.0.0.1:{target.port}", RelayRoute())

        assert target.has_visitor()
    assert (trial.kind, trial.error, trial.status) == ("TCP", "", None)


async def test_a_target_that_refuses_is_said_with_a_next_step() -> None:
    trial = await try_endpoint(f"127.0.0.1:{free_port()}", RelayRoute())

    assert "refused the connection" in trial.error
    assert trial.hint


async def test_a_target_that_the_allow_list_does_not_have_is_not_connected_to() -> None:
    allowed = parse_allow_list(["*.corp.local:*"], setting="--allow-target")
    with Target() as target:
        trial = await try_endpoint(f"127.0.0.1:{target.port}", RelayRoute(allow_list=allowed))

        assert not target.has_visitor()
    assert "allow" in trial.error
    assert "--allow-target" in trial.hint


async def test_a_target_that_says_nothing_is_not_waited_for() -> None:
    async def hang(host: str, port: int, *, admit: Admit | None = None) -> Stream:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    trial = await try_endpoint("db:5432", RelayRoute(dial=hang), timeout_seconds=0.01)

    assert trial.error == "db:5432 did not answer within 0.01 s"
    assert trial.hint


@pytest.mark.parametrize(
    "written", [HOST, f"https://{HOST}/", f"sb://{HOST}", f"https://{HOST}:443"]
)
async def test_a_namespace_is_asked_by_https(written: str) -> None:
    async with running_relay() as relay:
        route = RelayRoute(ca=relay.ca, connect_to=relay.connect_to)

        trial = await try_endpoint(written, route)

    assert trial == Trial(
        endpoint=f"{HOST}:443", kind="HTTPS", status=200, milliseconds=trial.milliseconds
    )


async def test_a_namespace_that_does_not_exist_or_is_not_trusted_is_not_reached() -> None:
    async with running_relay() as relay:
        unknown = await try_endpoint(
            "other.servicebus.windows.net", RelayRoute(ca=relay.ca, connect_to=relay.connect_to)
        )
        untrusted = await try_endpoint(HOST, RelayRoute(connect_to=relay.connect_to))

    assert unknown.status is not None
    assert unknown.status >= 400
    assert unknown.to_fields()["Reachable"] is False
    assert "certificate" in untrusted.error
    assert untrusted.hint


@pytest.mark.parametrize("written", ["", "db corp", "db:0", "db:port", "https://", "[::1"])
async def test_what_is_no_endpoint_is_a_mistake(written: str) -> None:
    with pytest.raises(InvalidSetting):
        await try_endpoint(written, RelayRoute())


def test_where_no_service_runs_the_command_takes_the_way_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    routes = []

    async def tried(endpoint: str, route: RelayRoute) -> Trial:
        routes.append(route)
        return Trial(endpoint=endpoint, kind="HTTPS", milliseconds=0.4, status=200)

    monkeypatch.setattr("hcm_agent.endpoint_test.try_endpoint", tried)
    ca = certificate()[2]
    verb = ("test", HOST, "--state", str(tmp_path), "--connect-to", "127.0.0.1:8443")

    way = ("--ca", str(ca), "--proxy", "none")
    assert exit_code_of(cli, PROGRAM, *verb, *way) == 0
    assert exit_code_of(cli, PROGRAM, *verb, "--ca", str(tmp_path / "missing.pem")) == 2
    assert exit_code_of(cli, PROGRAM, *verb, "--proxy", "ftp://alice:hidden@proxy") == 2

    assert routes == [RelayRoute(ca=ca, connect_to=("127.0.0.1", 8443), proxy="none")]
    assert "hidden" not in capsys.readouterr().err
