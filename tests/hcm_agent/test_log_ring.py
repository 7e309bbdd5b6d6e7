"""The last lines of the log: bounded, and free of live objects."""

from __future__ import annotations

import gc
import json
import logging
import weakref

import pytest

from hcm_agent.log_ring import MAX_LINES, MAX_MESSAGE_CHARACTERS, LogRing


@pytest.fixture
def log() -> logging.Logger:
    log = logging.Logger("of this test", logging.DEBUG)
    log.propagate = False
    return log


@pytest.fixture
def ring(log: logging.Logger) -> LogRing:
    ring = LogRing("hcm")
    log.addHandler(ring)
    return ring


def test_lines_come_as_text_or_json_and_from_a_number_on(
    log: logging.Logger, ring: LogRing
) -> None:
    log.info("one %s", "word", extra={"event": "first"})
    seen = ring.count
    log.warning("two", extra={"event": "second"})

    (line,) = ring.after(seen, as_json=False)
    assert line.endswith("WARNING two event=second")
    fields = [json.loads(each) for each in ring.after(0, as_json=True)]
    assert [each["message"] for each in fields] == ["one word", "two"]
    assert fields[0]["program"] == "hcm"
    (last,) = ring.after(0, limit=1, as_json=False)
    assert last == line


def test_it_forgets_the_oldest_and_cuts_what_is_long(log: logging.Logger, ring: LogRing) -> None:
    for number in range(MAX_LINES + 5):
        log.info("line %d", number)
    log.info("x" * 2 * MAX_MESSAGE_CHARACTERS)

    lines = ring.after(0, as_json=False)
    assert len(lines) == MAX_LINES
    assert lines[0].endswith("line 6")
    assert ring.count == MAX_LINES + 6
    assert len(lines[-1]) < MAX_MESSAGE_CHARACTERS + 100


def test_a_traceback_is_kept_and_its_objects_are_not(log: logging.Logger, ring: LogRing) -> None:
    class Thing:
        pass

    def fail(thing: Thing) -> None:
        try:
            raise ValueError("a bug")
        except ValueError:
            log.exception("it failed for %s", thing)

    thing = Thing()
    gone = weakref.ref(thing)
    fail(thing)
    del thing
    gc.collect()

    assert gone() is None
    assert "ValueError: a bug" in ring.after(0, as_json=False)[0]
    assert "ValueError: a bug" in json.loads(ring.after(0, as_json=True)[0])["exc_info"]
