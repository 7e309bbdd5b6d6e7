"""Programs that Debian packages bring: a test that needs a missing one is skipped aloud."""

from __future__ import annotations

import os
import shutil

import pytest

REQUIRE_ALL = "HYBRIDGE_REQUIRE_ALL"
"""Environment variable: set it to have a missing program fail its tests instead."""

PACKAGES = {
    "docker-compose": "docker-compose",
    "mariadb-install-db": "mariadb-server",
    "mariadbd": "mariadb-server",
    "microsocks": "microsocks",
    "node": "nodejs",
    "psql": "postgresql-client",
    "redis-server": "redis-server",
    "sshd": "openssh-server",
    "systemd-analyze": "systemd",
    "tinyproxy": "tinyproxy-bin",
}
"""Which package has which program."""

_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where servers are, and users' ``PATH`` does not look."""


def find(program: str) -> str | None:
    """Give the path of a program, or None."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_FOLDERS])
    return shutil.which(program, path=path)


def require(program: str) -> str:
    """Give the path of a program; skip the test, or fail it, where it is missing."""
    if path := find(program):
        return path
    reason = f"there is no {program}: apt-get install {PACKAGES[program]}"
    if os.environ.get(REQUIRE_ALL):
        pytest.fail(reason)
    pytest.skip(reason)
