"""docs/client.md is true: every command of it is run."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.support.agent_ends import free_port
from tests.support.transcripts import matches, play, steps, write_files

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "client.md"

KEY = "cHV0IHlvdXIgb3duIGtleSBoZXJl"


def connection_string(name: str, rule: str = "defaultSender") -> str:
    return (
        f"Endpoint=sb://contoso.servicebus.windows.net/;SharedAccessKeyName={rule};"
        f"SharedAccessKey={KEY};EntityPath={name}"
    )


def test_every_command_of_the_guide_prints_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ:
        if name.startswith("APP_CLIENT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        page = GUIDE.read_text(encoding="utf-8")
        page = page.replace("127.0.0.1:6379", f"127.0.0.1:{taken.getsockname()[1]}")
        page = page.replace(":5432", f":{free_port()}").replace("$PWD", str(tmp_path))
        write_files(page, tmp_path)
        environment = {
            "ORDERS": connection_string("orders-db"),
            "STOCK": connection_string("stock-db"),
            "LISTENER": connection_string("orders-db", "defaultListener"),
        }
        found = steps(page)
        assert len(found) >= 20
        for step in found:
            play(step, environment=environment)


@pytest.mark.parametrize(
    ("shown", "printed", "is_same"),
    [
        (["a", "..."], ["a", "b", "c"], True),
        (["...", "c"], ["a", "b", "c"], True),
        (["a ... c"], ["a b c"], True),
        (["a"], ["a", "b"], False),
        (["a", "..."], ["b"], False),
        ([], [], True),
        ([], ["a"], False),
        (["a"], ["2026-11-26T07:31:21.064Z INFO    b", "a"], True),
        (["... INFO    b"], ["2026-11-26T07:31:21.064Z INFO    c"], False),
    ],
)
def test_three_dots_stand_for_anything_and_all_else_for_itself(
    shown: list[str], printed: list[str], is_same: bool
) -> None:
    assert matches(shown, printed) is is_same
