"""Programs from Debian: as they are installed, or unpacked into our cache, without root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import PeerMissing

_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/bin")
"""Where servers are, and users' ``PATH`` does not look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianProgram:
    """A program, and the package that brings it."""

    program: str
    package: str

    def find(self, cache: Path) -> Path:
        """Find it installed, or put it into ``cache`` beside the libraries that are not.

        Raises:
            PeerMissing: It is not installed, and cannot be fetched.
        """
        search = os.pathsep.join((os.environ.get("PATH", ""), *_FOLDERS))
        if found := shutil.which(self.program, path=search):
            return Path(found).resolve()
        fetched = cache / self.package / self.program
        if not fetched.exists():
            self._fetch(fetched)
        return fetched

    def _fetch(self, place: Path) -> None:
        if not all(map(shutil.which, ("apt-get", "dpkg-deb"))):
            raise PeerMissing(f"no {self.program} was found: install {self.package}")
        print(
            f"No {self.program} is installed: fetching Debian's {self.package}, for this only ..."
        )
        with tempfile.TemporaryDirectory(prefix="hybridge-bench-") as name:
            folder = Path(name)
            try:
                _download([self.package, *_missing_libraries(self.package)], folder)
                self._unpack(folder, place)
            except (OSError, subprocess.SubprocessError) as error:
                raise PeerMissing(
                    f"no {self.program} was found, and {self.package} could not be fetched:"
                    " apt-get update, or install it"
                ) from error

    def _unpack(self, downloads: Path, place: Path) -> None:
        for package in downloads.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, downloads / "x"], check=True, timeout=60)
        place.parent.mkdir(parents=True, exist_ok=True)
        for library in downloads.glob("x/**/*.so.*"):
            shutil.copy(library, place.parent / library.name)
        found = next(iter(downloads.glob(f"x/usr/*bin/{self.program}")), None)
        if found is None:
            raise FileNotFoundError(self.program)
        # Last, and in one step: what is there is whole.
        shutil.copy(found, place.with_suffix(".part"))
        place.with_suffix(".part").replace(place)


def environment(program: Path) -> dict[str, str]:
    """Give the environment in which a program finds the libraries that were fetched with it."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LD_LIBRARY_PATH": str(program.parent),
    }


def _download(packages: list[str], folder: Path) -> None:
    subprocess.run(
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=120,
    )


def _missing_libraries(package: str) -> list[str]:
    """Give the libraries' packages that an installation would bring along, as apt-get says."""
    done = subprocess.run(
        ["apt-get", "-q", "--simulate", "--no-install-recommends", "install", package],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    brought = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("Inst ")]
    return [name for name in brought if name.startswith("lib")]
