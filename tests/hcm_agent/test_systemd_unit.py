"""The unit for systemd: valid, and hardened as the operators' guide says."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import debian

UNIT = Path(__file__).resolve().parents[2] / "packaging" / "hcm.service"

MOST_EXPOSED = 2.0
"""Of 10, as ``systemd-analyze security`` counts."""


def section(name: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return parser[name]


@pytest.mark.parametrize(
    ("directive", "value"),
    [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("CapabilityBoundingSet", ""),
        ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
        ("SocketBindDeny", "any"),
        ("StateDirectory", "hcm"),
        ("StateDirectoryMode", "0700"),
        ("Restart", "on-failure"),
        ("LimitNOFILE", "65536"),
    ],
)
def test_the_unit_is_hardened(directive: str, value: str) -> None:
    assert section("Service")[directive] == value


def test_no_key_stands_in_the_unit_or_on_its_command_line() -> None:
    assert section("Service")["ExecStart"] == "/opt/hybridge/bin/hcm run"
    assert "SharedAccessKey" not in UNIT.read_text(encoding="utf-8")


def test_systemd_takes_it_and_finds_little_that_is_exposed(tmp_path: Path) -> None:
    debian.require("systemd-analyze")
    unit = tmp_path / "hcm.service"
    text = UNIT.read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/hybridge/bin/hcm", shutil.which("true") or ""))

    verified = analyze("verify", str(unit))
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")

    judged = analyze("security", "--offline=yes", "--no-pager", str(unit))
    level = re.search(r"exposure level for hcm.service: ([\d.]+)", judged.stdout)
    assert level is not None, judged.stderr
    assert float(level[1]) <= MOST_EXPOSED


def analyze(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        ["systemd-analyze", *args],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
