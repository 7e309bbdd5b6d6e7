"""Set up what the interop tests run: Microsoft's libraries from npm, and the WebSocket suite.

    python -m tests.interop.install

Everything goes into the git-ignored folder `FOLDER` of the project, in exactly the versions that
``node/package-lock.json`` and ``autobahn/requirements.txt`` name. Node must be there; without a
Python 2.7 the WebSocket suite is left out, and `why_no_autobahn` says why.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent.parent / ".interop"
NODE_FOLDER = FOLDER / "node"
AUTOBAHN_FOLDER = FOLDER / "autobahn"

NODE_MAJOR_VERSION = 18
"""The oldest Node that the tests' scripts and jest run on."""

INSTALL_SECONDS = 600.0
"""How long one installation may take."""

ASK_SECONDS = 30.0
"""How long a program may take to tell its version."""


class InstallFailed(Exception):
    """Something that must be there is not; the message is for people, hint included."""


def node_program() -> str:
    """Find Node.

    Raises:
        InstallFailed: There is none, or it is too old. Node may not be left out.
    """
    node = shutil.which("node")
    version = _output([node, "--version"]).strip().removeprefix("v") if node else ""
    if node is None or int(version.split(".")[0] or 0) < NODE_MAJOR_VERSION:
        found = f"is {version}" if version else "was not found"
        raise InstallFailed(
            f"Node {found}, and the interop tests need {NODE_MAJOR_VERSION} or newer, with npm\n"
            "hint: install nodejs and npm (Debian: apt-get install nodejs npm)"
        )
    return node


def install_node() -> None:
    """Install the npm packages, unless they are there.

    Raises:
        InstallFailed: No Node, no npm, or npm failed.
    """
    node_program()
    npm = shutil.which("npm")
    if npm is None:
        raise InstallFailed("npm was not found\nhint: install npm beside Node")
    source = HERE / "node"
    names = ("package.json", "package-lock.json")
    stamp = _stamp(*(source / name for name in names))
    if _is_installed(NODE_FOLDER, stamp):
        return
    print("Installing Microsoft's Node libraries ...", flush=True)
    NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(source / name, NODE_FOLDER)
    _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=NODE_FOLDER)
    _mark(NODE_FOLDER, stamp)


def install_autobahn() -> str:
    """Install the WebSocket suite, unless it is there; give the reason where it cannot be."""
    stamp = _stamp(HERE / "autobahn" / "requirements.txt")
    if _is_installed(AUTOBAHN_FOLDER, stamp):
        return ""
    python = next(_pythons_2(), None)
    if python is None:
        return "no Python 2.7, and autobahntestsuite runs on nothing newer"
    if not _output([python, "-m", "pip", "--version"]):
        return f"{python} has no pip"
    print("Installing the WebSocket suite for Python 2.7 (about a minute) ...", flush=True)
    shutil.rmtree(AUTOBAHN_FOLDER, ignore_errors=True)
    AUTOBAHN_FOLDER.mkdir(parents=True)
    requirements = str(HERE / "autobahn" / "requirements.txt")
    command = [python, "-m", "pip", "install", "--user", "--quiet", "--requirement", requirements]
    try:
        _run(command, environment={"PYTHONUSERBASE": str(AUTOBAHN_FOLDER)})
    except InstallFailed as failed:
        return f"autobahntestsuite could not be installed: {failed}"
    (AUTOBAHN_FOLDER / "python").write_text(python, encoding="utf-8")
    _mark(AUTOBAHN_FOLDER, stamp)
    return ""


def why_no_autobahn() -> str:
    """Say why the WebSocket suite is not there; empty where it is."""
    if _is_installed(AUTOBAHN_FOLDER, _stamp(HERE / "autobahn" / "requirements.txt")):
        return ""
    why = FOLDER / "why-no-autobahn"
    return (
        why.read_text(encoding="utf-8") if why.exists() else "not installed: make interop does it"
    )


def autobahn_command() -> list[str]:
    """Give the command line that starts the WebSocket suite's ``wstest``."""
    python = (AUTOBAHN_FOLDER / "python").read_text(encoding="utf-8")
    return [python, "-W", "ignore", "-c", "from autobahntestsuite.wstest import run; run()"]


def _pythons_2() -> Iterator[str]:
    """Give the Python 2.7 interpreters that really start: a shim may name one that does not."""
    found = [shutil.which("python2.7"), shutil.which("python2")]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += [str(path) for path in sorted(versions.glob("2.7*/bin/python2.7"))]
    for each in found:
        if each and _output([each, "-c", "import sys; print(sys.version_info[:2])"]) == "(2, 7)\n":
            yield each


def _output(command: Sequence[str]) -> str:
    """What a command prints; empty where it does not start or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _run(
    command: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallFailed(f"{command[0]}: {error}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise InstallFailed(f"{' '.join(command[:3])} failed:\n" + "\n".join(lines))


def _stamp(*files: Path) -> str:
    digest = hashlib.sha256()
    for each in files:
        digest.update(each.read_bytes())
    return digest.hexdigest()


def _is_installed(folder: Path, stamp: str) -> bool:
    path = folder / ".installed"
    return path.exists() and path.read_text(encoding="utf-8") == stamp


def _mark(folder: Path, stamp: str) -> None:
    (folder / ".installed").write_text(stamp, encoding="utf-8")


def main() -> int:
    try:
        install_node()
    except InstallFailed as failed:
        print(f"interop: error: {failed}", file=sys.stderr)
        return 1
    why = install_autobahn()
    (FOLDER / "why-no-autobahn").write_text(why, encoding="utf-8")
    if why:
        print(f"interop: the WebSocket suite is left out: {why}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
