from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers import PeerMissing
from benchmarks.peers.openssh import AES128_GCM, OpenSsh, server_settings


def test_the_server_is_reachable_from_this_machine_only_and_by_one_key_only() -> None:
    lines = server_settings(Path("keys"), 2222, AES128_GCM).splitlines()

    assert "ListenAddress 127.0.0.1" in lines
    assert "Port 2222" in lines
    assert "AuthorizedKeysFile keys/user_key.pub" in lines
    assert "PasswordAuthentication no" in lines
    assert "UsePAM no" in lines
    assert f"Ciphers {AES128_GCM}" in lines


def test_the_default_cipher_is_what_openssh_chooses() -> None:
    assert "Ciphers" not in server_settings(Path("keys"), 2222, None)


def test_without_an_ssh_the_peer_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)

    with pytest.raises(PeerMissing, match="no ssh was found"):
        OpenSsh(cache=tmp_path).prepare()
