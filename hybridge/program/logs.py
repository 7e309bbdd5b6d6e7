"""What the programs write to standard error: one line an event, as text or as JSON."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

LogFormat = Literal["text", "json"]

JsonFields = Callable[[logging.LogRecord], Mapping[str, object]]
"""Gives further fields of a JSON line."""

OUR_LOGGERS = ("hybridge", "relay", "hcm_agent", "app_client", "devstack")

NEVER_BELOW_WARNING = ("websockets", "asyncio", "uvicorn")
"""At DEBUG `websockets` prints handshakes, and with them tokens."""

_STANDARD_FIELDS = frozenset(
    vars(logging.LogRecord("", 0, "", 0, "", (), None))
    | {"message": "", "asctime": "", "taskName": ""}
)
_PLAIN_VALUE = re.compile(r"[^\s\"=\\]+")


def configure(
    *, program: str, log_format: LogFormat, verbose: bool, json_fields: JsonFields | None = None
) -> None:
    """Send the log of this process to standard error. Called once, by the program's ``main``.

    Args:
        program: Name that JSON lines carry, so that the logs of several programs can be mixed.
        log_format: ``text`` for people: time, level, message, then extras as ``key=value``.
            ``json`` for machines: the same as one object a line.
        verbose: Show DEBUG too, of our own loggers only.
        json_fields: Gives what JSON lines carry besides, and instead of extras of the same name.
    """
    handler = logging.StreamHandler(sys.stderr)
    is_json = log_format == "json"
    handler.setFormatter(json_formatter(program, json_fields) if is_json else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in NEVER_BELOW_WARNING:
        logging.getLogger(name).setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """Time (UTC), level, message, and whatever the call gave as ``extra``."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        # Peers choose some of the text: a line end in it must not look like a line of ours.
        record.message = _visible(record.message)
        extras = "".join(
            f" {name}={_value(value)}"
            for name, value in vars(record).items()
            if name not in _STANDARD_FIELDS
        )
        return super().formatMessage(record) + extras


def _value(value: object) -> str:
    text = str(value)
    return text if _PLAIN_VALUE.fullmatch(text) and text.isprintable() else json.dumps(text)


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def json_formatter(program: str, json_fields: JsonFields | None = None) -> logging.Formatter:
    """One JSON object a line: time, level, logger, message, program, extras.

    Args:
        program: As for `configure`.
        json_fields: As for `configure`.
    """
    # Costs a few imports, and most runs want text.
    from pythonjsonlogger.json import JsonFormatter

    class Formatter(JsonFormatter):
        converter = staticmethod(time.gmtime)
        default_time_format = "%Y-%m-%dT%H:%M:%S"
        default_msec_format = "%s.%03dZ"

        def add_fields(
            self,
            log_data: dict[str, Any],
            record: logging.LogRecord,
            message_dict: dict[str, Any],
        ) -> None:
            super().add_fields(log_data, record, message_dict)
            if json_fields is not None:
                log_data.update(json_fields(record))

    return Formatter(
        "%(asctime)s %(levelname)s %(name)s %(message)s",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        static_fields={"program": program},
        reserved_attrs=sorted(_STANDARD_FIELDS),
    )
