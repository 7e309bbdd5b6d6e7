"""The demo, as a newcomer runs it: what it shows, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

DEMO = [sys.executable, "-P", "-m", "devstack", "demo"]

pytestmark = pytest.mark.timeout(120)


class Surroundings:
    """A temporary folder of its own, by which everything that a demo starts can be found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "TMPDIR": str(folder), "NO_COLOR": "1"}
        # What a reader of the tutorial has left in the shell.
        self.environment["PGHOSTADDR"] = "127.78.174.99"

    @contextmanager
    def start(self, *command: str, **streams: int) -> Iterator[subprocess.Popen[str]]:
        """Run a demo here; one that has not ended by then is killed."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **streams}
        with subprocess.Popen(  # noqa: S603 - our own command
            command or DEMO,
            env=self.environment,
            text=True,
            stdin=streams["stdin"],
            stdout=streams["stdout"],
            stderr=streams.get("stderr"),
        ) as demo:
            try:
                yield demo
            finally:
                demo.kill()

    def leftovers(self) -> list[str]:
        """Files and processes that are still there."""
        files = [str(path) for path in self.folder.iterdir()]
        processes = []
        for process in psutil.process_iter(["pid", "cmdline", "environ"]):
            command = " ".join(process.info["cmdline"] or [])
            variables = process.info["environ"] or {}
            if str(self.folder) in (variables.get("TMPDIR"), command) or (
                str(self.folder) in command
            ):
                processes.append(command)
        return files + processes


@pytest.fixture
def surroundings() -> Iterator[Surroundings]:
    # Not tmp_path: PostgreSQL runs as another user when the tests run as root, and must get in.
    with tempfile.TemporaryDirectory(prefix="demo-test-") as folder:
        Path(folder).chmod(0o755)
        yield Surroundings(Path(folder))


def test_without_a_terminal_it_shows_every_step_and_leaves_nothing(
    surroundings: Surroundings,
) -> None:
    with surroundings.start(stderr=subprocess.PIPE) as demo:
        page, errors = demo.communicate()

    assert (demo.returncode, errors) == (0, "")
    for expected in (
        "  1   On-premises: a real PostgreSQL",
        "app-client  ──▶ relay ",
        "relay       ──▶ hcm         accept",
        "hcm         ──▶ PostgreSQL  dials 127.0.0.1:",
        "hcm         ──▶ relay       dials the rendezvous address",
        "Northwind   forklift battery    880.50",
        "through the relay",
        "Everything has been stopped and removed.",
    ):
        assert expected in page
    assert surroundings.leftovers() == []


@pytest.mark.parametrize("step", ["  1  ", "  2  ", "  5  "])
def test_an_interruption_in_any_step_leaves_nothing(surroundings: Surroundings, step: str) -> None:
    with surroundings.start() as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith(step):
                demo.send_signal(signal.SIGINT)
                break
        rest = demo.stdout.read()
        code = demo.wait()

    assert "Interrupted. Everything has been stopped and removed." in rest
    assert code == 130
    assert surroundings.leftovers() == []


def test_on_a_terminal_it_stays_up_until_it_is_asked_to_end(surroundings: Surroundings) -> None:
    ours, theirs = os.openpty()
    with surroundings.start(stdin=theirs, stdout=theirs, stderr=theirs) as demo:
        os.close(theirs)
        page = b""
        while b"Ctrl-C ends it" not in page:
            page += os.read(ours, 4_096)
        still_running = demo.poll() is None
        demo.send_signal(signal.SIGTERM)
        code = demo.wait()
    os.close(ours)

    assert still_running
    assert code == 0
    assert b"psql" in page
    assert surroundings.leftovers() == []


def test_a_failing_program_is_shown_with_its_last_lines(surroundings: Surroundings) -> None:
    # A relay whose modules cannot be found, as after a broken installation.
    broken = "import sys, runpy; sys.modules['relay'] = None; "
    stub = surroundings.folder / "bin"
    stub.mkdir()
    python = stub / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$3" = relay ] && exec {sys.executable} -c "{broken}import relay"\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    script = (
        f"import sys; sys.executable = {str(python)!r}; sys.argv = ['hybridge', 'demo']; "
        "from devstack.cli import main; main()"
    )

    with surroundings.start(sys.executable, "-c", script, stderr=subprocess.PIPE) as demo:
        _, errors = demo.communicate()

    assert demo.returncode == 1
    lines = errors.splitlines()
    assert "ModuleNotFoundError: import of relay halted" in lines[-3]
    assert lines[-2].startswith("hybridge: error: relay: ended before the event 'listening'")
    assert lines[-1].startswith("hybridge: hint: ")
    python.unlink()
    stub.rmdir()
    assert surroundings.leftovers() == []
