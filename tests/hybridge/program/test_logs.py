from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from hybridge.program import logs


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    names = (*logs.OUR_LOGGERS, *logs.NEVER_BELOW_WARNING)
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_text_line_has_time_level_message_and_extras(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(program="prog", log_format="text", verbose=False)

    logging.getLogger("relay.gateway").info("opened %s", "it", extra={"id": "a-1", "count": 3})

    (line,) = lines(capsys)
    stamp, rest = line.split(" ", 1)
    assert stamp.endswith("Z")
    assert rest == "INFO    opened it id=a-1 count=3"


def test_a_json_line_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(program="prog", log_format="json", verbose=False)

    logging.getLogger("relay.gateway").warning("opened\n%s", "it", extra={"id": "a-1"})

    (line,) = lines(capsys)
    fields = json.loads(line)
    assert fields.pop("time").endswith("Z")
    assert fields == {
        "level": "WARNING",
        "logger": "relay.gateway",
        "program": "prog",
        "message": "opened\nit",
        "id": "a-1",
    }


def test_text_that_a_peer_chose_cannot_look_like_a_line_of_ours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(program="prog", log_format="text", verbose=False)

    forged = "x\n2026-01-01T00:00:00.000Z INFO    forged\x1b[2J"
    logging.getLogger("relay").info("id %s", forged, extra={"id": forged, "empty": ""})

    (line,) = lines(capsys)
    assert "\x1b" not in line
    assert line.endswith('empty=""')


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_bug_shows_its_traceback(
    log_format: logs.LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(program="prog", log_format=log_format, verbose=False)

    try:
        raise LookupError("here")
    except LookupError:
        logging.getLogger("relay").exception("failed")

    assert "LookupError: here" in capsys.readouterr().err


@pytest.mark.parametrize("verbose", [False, True])
def test_third_parties_never_go_below_warning(
    verbose: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(program="prog", log_format="text", verbose=verbose)

    for name in ("websockets.client", "websockets", "asyncio", "uvicorn.error", "anything"):
        logging.getLogger(name).info("token")
        logging.getLogger(name).debug("token")
    logging.getLogger("relay.x").debug("ours")

    assert len(lines(capsys)) == (1 if verbose else 0)


def test_configuring_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(program="prog", log_format="text", verbose=False)
    logs.configure(program="prog", log_format="text", verbose=False)

    logging.getLogger("relay").info("once")

    assert len(lines(capsys)) == 1
