"""What a run was made on: enough to judge the figures, nothing that names whose machine it was."""

from __future__ import annotations

import os
import platform
import ssl
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def describe() -> dict[str, str]:
    """Give date, processor, system and versions, as the report shows them."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "system": f"{platform.system()} {platform.release()}",
        "Hybridge": version("hybridge"),
        "Python": sys.version.split()[0] + (", as a shared library" if is_shared() else ""),
        "OpenSSL": ssl.OPENSSL_VERSION,
    }


def is_shared() -> bool:
    """Whether the interpreter is a library of its own.

    Debian's program has all in one piece, laid out by a profile: woken for each message, with cold
    caches, that took 15 % off a round trip, though both run a loop equally fast.
    """
    try:
        return "/libpython" in Path("/proc/self/maps").read_text(encoding="utf-8")
    except OSError:
        return False


def load_average() -> str:
    """Give how many processes ran or waited to run, in the last minute and the last five."""
    one, five, _ = os.getloadavg()
    return f"{one:.2f}, {five:.2f}"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
