"""The verbs and the targets: the allow-list holds for what was added, and who asks is told."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from hcm_agent.control import server
from hcm_agent.hybrid_connection import Outside
from hcm_agent.service import Service
from tests.support import hcm_service
from tests.support.agent_ends import free_port
from tests.support.hcm_service import (
    HcmService,
    relay_in_thread,
    running_service,
    text_for,
    type_command,
)
from tests.support.relay import RunningRelay


@pytest.fixture(scope="module")
def relay() -> Iterator[RunningRelay]:
    with relay_in_thread() as running:
        yield running


@pytest.fixture
def real_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service dials this machine, and no scripted network."""
    monkeypatch.setattr(hcm_service, "_dial", Outside().dial)


def added(service: HcmService, folder: Path, target: str) -> dict[str, object]:
    """Add orders with a target, and give what the service says of it."""
    environment = {"HCM_STATE": str(service.state.path), "TEXT": text_for("orders")}
    line = f"echo $TEXT | hcm add - --target {target}"
    code, output = type_command(line, environment=environment, folder=folder)
    assert code == 0, output
    service.wait_settled()
    return shown(service, folder)


def shown(service: HcmService, folder: Path) -> dict[str, object]:
    """What ``hcm show`` says of orders."""
    line = "hcm show -ns contoso.servicebus.windows.net -n orders --json"
    environment = {"HCM_STATE": str(service.state.path)}
    code, output = type_command(line, environment=environment, folder=folder)
    assert code == 0, output
    fields: dict[str, object] = json.loads(output)
    return fields


@pytest.mark.usefixtures("real_targets")
def test_the_allow_list_holds_for_what_was_added_too(tmp_path: Path, relay: RunningRelay) -> None:
    config = tmp_path / "hcm.json"
    config.write_text(json.dumps({"AllowTargets": ["db.corp.local:5432"]}))
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.setblocking(False)
        address = f"127.0.0.1:{target.getsockname()[1]}"
        with running_service(tmp_path / "state", relay, config=config) as service:
            fields = added(service, tmp_path, address)

        with pytest.raises(BlockingIOError):
            target.accept()

    assert fields["Status"] == "Connected"
    assert fields["EndpointReachable"] is False
    assert fields["EndpointLastError"] == (
        f"The agent's allow-list does not have the target {address}."
    )


@pytest.mark.usefixtures("real_targets")
def test_who_asks_hears_that_a_target_has_gone_although_no_sender_came(
    tmp_path: Path, relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hcm_agent.hybrid_connection.HEARD_LATELY_SECONDS", 0.0)
    port = free_port()
    with running_service(tmp_path / "state", relay) as service:
        with socket.create_server(("127.0.0.1", port)):
            assert added(service, tmp_path, f"127.0.0.1:{port}")["EndpointReachable"] is True

        fields = shown(service, tmp_path)

    assert fields["EndpointReachable"] is False
    assert fields["EndpointLastError"] == f"127.0.0.1:{port} refused the connection"


async def test_who_watches_has_targets_looked_at_once_and_not_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "WATCH_SECONDS", 0.001)
    stopping = asyncio.Event()
    looks: list[bool] = []

    class Listed:
        async def list_all(self, *, look_at_endpoints: bool) -> list[dict[str, object]]:
            looks.append(look_at_endpoints)
            if len(looks) == 3:
                stopping.set()
            return []

    told = [line async for line in server._changes(cast("Service", Listed()), stopping)]

    assert told == ["[]\n"]
    assert looks == [True, False, False]
