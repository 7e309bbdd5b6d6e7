"""What ``hcm list`` prints for people: 80 columns, all of it, and a relay's words as text."""

from __future__ import annotations

import pytest

from hcm_agent.commands import table

LONG = {
    "Namespace": "mycompany-production-westeurope",
    "Name": "orders-database-primary-replica",
    "Endpoint": "postgres-primary-01.datacenter.corp.example.com:5432",
    "Status": "Disconnected",
    "OpenConnections": 1234,
    "EndpointReachable": False,
    "EndpointSince": "2025-11-25T08:00:00Z",
    "EndpointLastError": "it did not answer",
    "LastError": "no route",
    "Hint": "look at the [bold]network[/bold]\x1b[2J",
}


def test_long_names_are_folded_and_nothing_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    table.print_list([LONG])

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "1234" in lines[2]
    columns = ["".join(line[start:].split(" ")[0] for line in lines[2:6]) for start in (0, 21)]
    assert columns == [LONG["Name"], LONG["Namespace"]]


def test_what_a_relay_says_is_text_and_no_colours_leave_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    table.print_list([LONG])

    output = capsys.readouterr().out
    assert "look at the [bold]network[/bold]\\x1b[2J" in output
    assert "\x1b" not in output


def test_a_narrow_terminal_gets_lines_instead_of_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    short = {**LONG, "Name": "orders", "Namespace": "contoso", "Endpoint": "db.corp.local:5432"}

    table.print_list([short])

    assert capsys.readouterr().out.splitlines()[:3] == [
        "orders in contoso: Disconnected",
        "  db.corp.local:5432, 1234 open",
        "  not reachable since 2025-11-25 08:00Z",
    ]
