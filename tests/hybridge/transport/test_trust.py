from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybridge.protocol.errors import InvalidSetting
from hybridge.transport.development_ca import DevelopmentCa
from hybridge.transport.trust import client_context


def written(folder: Path, name: str = "ca.pem") -> Path:
    """A CA file, with an authority of its own."""
    path = folder / name
    path.write_text(DevelopmentCa.load_or_create(folder / f"state of {name}").pem)
    return path


def serials(ca: Path | None) -> set[str]:
    """The serial numbers of those whom we trust."""
    return {str(each["serialNumber"]) for each in client_context(ca).get_ca_certs()}


def test_all_who_trust_the_same_share_one_context(tmp_path: Path) -> None:
    one, other = written(tmp_path), written(tmp_path, "other.pem")

    assert client_context(one) is client_context(one)
    assert client_context(one) is not client_context(other)
    assert client_context(None) is client_context(None)
    assert client_context(None) is not client_context(one)


@pytest.mark.parametrize("is_replaced", [True, False], ids=["replaced", "written again"])
def test_a_file_that_has_changed_is_read_again(tmp_path: Path, is_replaced: bool) -> None:
    ca, new = written(tmp_path), written(tmp_path, "new.pem")
    before, wanted = serials(ca), serials(new)

    if is_replaced:
        new.replace(ca)
    else:
        ca.write_text(new.read_text())
        os.utime(ca, ns=(0, 0))  # A file system's clock may be coarser than this test is long.

    assert serials(ca) == wanted != before


def test_another_store_of_the_system_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = serials(None)
    store = written(tmp_path)

    monkeypatch.setenv("SSL_CERT_FILE", str(store))

    assert serials(None) - before


def test_a_file_that_was_mended_is_tried_again(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    with pytest.raises(InvalidSetting, match="cannot be read"):
        client_context(ca)

    written(tmp_path)

    assert serials(ca)
