"""The system's own Python for our programs, where another one runs the benchmarks.

Debian's Python is a program in one piece, laid out by a profile of its work. One that somebody has
compiled is often a plain shared library, and woken for every message with cold caches it is slower,
though both run a loop equally fast. So both are measured.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import is_shared
from benchmarks.peers import PeerMissing

SYSTEM_PYTHON = Path("/usr/bin/python3")
OLDEST, NEWEST = (3, 11), (3, 13)

PROJECT = Path(__file__).parents[2]

_DESCRIBE = """
import sys
print(*sys.version_info[:3], "/libpython" in open("/proc/self/maps").read())
"""


class SystemPython:
    """An environment of its own with our programs, made once.

    Args:
        cache: The folder where it is kept.
    """

    def __init__(self, *, cache: Path) -> None:
        self._folder = cache / "system-python"

    def prepare(self) -> tuple[Path, str]:
        """Give the interpreter and its version.

        Raises:
            PeerMissing: The system has none that fits, or it is the one that runs this.
        """
        if not is_shared():
            raise PeerMissing("the Python that runs this is in one piece: see the others")
        version = _version(SYSTEM_PYTHON)
        python = self._folder / "bin" / "python"
        ready = self._folder / "ready"
        digest = self._digest(version)
        if not ready.is_file() or ready.read_text(encoding="utf-8") != digest:
            _run(SYSTEM_PYTHON, "-m", "venv", "--without-pip", "--clear", self._folder)
            _run(
                sys.executable, "-m", "pip", "--python", python, "install", "--quiet",
                "--disable-pip-version-check", "--constraint", PROJECT / "constraints.txt",
                "--editable", f"{PROJECT}[fast]",
            )  # fmt: skip
            ready.write_text(digest, encoding="utf-8")
        return python, version

    def _digest(self, version: str) -> str:
        files = (PROJECT / name for name in ("pyproject.toml", "constraints.txt"))
        content = b"".join(each.read_bytes() for each in files)
        return hashlib.sha256(version.encode() + content).hexdigest()


def _version(python: Path) -> str:
    """Give the version of a Python in one piece that our programs fit."""
    try:
        answer = subprocess.run(
            [python, "-c", _DESCRIBE], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        raise PeerMissing(f"no Python is at {python}") from None
    *numbers, shared = answer.stdout.split()
    found = tuple(int(each) for each in numbers)
    if not OLDEST <= found[:2] <= NEWEST or shared == "True":
        raise PeerMissing(f"{python} is {'.'.join(numbers)}, or a shared library like this one")
    return ".".join(numbers)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise PeerMissing(f"its environment could not be made: {' '.join(last)}")
