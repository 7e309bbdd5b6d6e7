"""Where the service keeps what must survive it, and where the verbs find it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hybridge.protocol.errors import InvalidSetting, RelayError
from hybridge.transport.private_files import (
    PRIVATE_FILE,
    UnusableFile,
    make_private_directory,
    remove_unfinished,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NO_STATE = "none"
"""In place of a directory: nothing is kept, and there are no verbs."""

SYSTEM_DIRECTORY = Path("/var/lib/hcm")
"""Of the service that systemd runs; root's verbs look there first."""


class AnotherServiceRuns(RelayError):
    """The state directory belongs to a service that runs."""


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """One service's directory: two services have two."""

    path: Path

    is_named: bool
    """Whether somebody chose it: then it must be usable."""

    @property
    def connections(self) -> Path:
        """What ``hcm add`` stored."""
        return self.path / "connections.json"

    @property
    def socket(self) -> Path:
        """The Unix socket that the verbs speak to."""
        return self.path / "control.sock"

    @property
    def loopback(self) -> Path:
        """Port and token, where the verbs speak to a loopback port instead."""
        return self.path / "control.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the directory, and keep other services out of it for the block.

        The lock ends with the process, however that ends, so it is never stale.

        Raises:
            AnotherServiceRuns: It is somebody else's just now.
            UnusableFile: It cannot be made or written, or others may write into it.
        """
        make_private_directory(self.path)
        path = self.path / "service.lock"
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor = os.open(path, flags, PRIVATE_FILE)
        except OSError as error:
            raise UnusableFile(
                path,
                f"cannot be written: {error.strerror}",
                hint="make the directory this user's own, or choose another with --state",
            ) from error
        try:
            if fcntl is not None:
                self._lock(descriptor)
            with contextlib.suppress(OSError):  # A full disk: it is told to people only.
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
            remove_unfinished(self.connections)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            process = os.read(descriptor, 20).decode(errors="replace")
            raise AnotherServiceRuns(
                f"another hcm service runs with the state directory {self.path}"
                f" (process {process or 'unknown'})",
                hint="add to that one with 'hcm add', or give this one its own: --state DIR",
            ) from error


def find_state_directory(
    given: Path | None, *, environment: Mapping[str, str]
) -> StateDirectory | None:
    """Give the state directory of a service, for itself and for the verbs.

    Args:
        given: What ``--state`` says, if anything.
        environment: ``STATE_DIRECTORY`` is systemd's for its services, ``XDG_STATE_HOME`` and
            ``HOME`` are the user's.

    Returns:
        The directory, which need not exist; None for `NO_STATE`.

    Raises:
        InvalidSetting: There is none: this user has no home.
    """
    if given is not None:
        return None if str(given) == NO_STATE else StateDirectory(given.absolute(), is_named=True)
    if from_systemd := environment.get("STATE_DIRECTORY", "").partition(":")[0]:
        return StateDirectory(Path(from_systemd), is_named=True)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if is_root and SYSTEM_DIRECTORY.is_dir():
        return StateDirectory(SYSTEM_DIRECTORY, is_named=False)
    state_home = Path(environment.get("XDG_STATE_HOME", ""))
    if not state_home.is_absolute():  # As its specification demands.
        try:
            state_home = Path.home() / ".local" / "state"
        except RuntimeError:
            raise InvalidSetting(
                "--state", "this user has no home directory", hint="name one: --state DIR"
            ) from None
    return StateDirectory(state_home / "hybridge" / "hcm", is_named=False)
