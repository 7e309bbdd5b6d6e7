"""The demo's page."""

from __future__ import annotations

import io

import pytest

from devstack.screen import Screen, seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_steps_are_numbered_and_timed() -> None:
    output = io.StringIO()
    screen = Screen(output)

    with screen.step("first"):
        screen.note("something")
    with screen.step("second"):
        pass

    lines = output.getvalue().splitlines()
    assert lines[1] == "  1   first"
    assert lines[2] == "      something"
    assert lines[3].endswith((" µs", " ms"))
    assert lines[5] == "  2   second"


def test_a_table_aligns_numbers_to_the_right() -> None:
    output = io.StringIO()

    Screen(output).table(["id", "article"], [(1, "bolt"), (12, "forklift")])

    assert output.getvalue() == ("      id   article\n       1   bolt\n      12   forklift\n")


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, file, plain = Terminal(), io.StringIO(), Terminal()

    Screen(terminal).arrow("hcm", "relay", "dials")
    Screen(file).arrow("hcm", "relay", "dials")
    monkeypatch.setenv("NO_COLOR", "1")
    Screen(plain).arrow("hcm", "relay", "dials")

    assert "\x1b[" in terminal.getvalue()
    assert file.getvalue() == plain.getvalue() == "      hcm         ──▶ relay       dials\n"


def test_a_terminal_without_unicode_gets_plain_arrows() -> None:
    raw = io.BytesIO()
    output = io.TextIOWrapper(raw, encoding="latin-1", newline="")

    Screen(output).arrow("relay", "hcm", "accept", at="3 ms")
    output.flush()

    assert raw.getvalue() == b"     3 ms   relay       --> hcm         accept\n"


@pytest.mark.parametrize(
    ("duration", "text"),
    [(0.00084, "840 µs"), (0.0123, "12.3 ms"), (0.9999, "999.9 ms"), (1.518, "1.52 s")],
)
def test_durations_read_as_people_say_them(duration: float, text: str) -> None:
    assert seconds(duration) == text
