from __future__ import annotations

from pathlib import Path

from benchmarks.peers.chain import CIPHER, haproxy_settings, stunnel_settings


def test_both_legs_speak_tls_1_2_with_one_cipher_and_check_certificates() -> None:
    near = stunnel_settings(accept="127.0.0.1:1", connect="127.0.0.1:2", tls=("client = yes",))
    middle = haproxy_settings(accept="127.0.0.1:2", connect="127.0.0.1:3", folder=Path("keys"))

    assert {"sslVersion = TLSv1.2", f"ciphers = {CIPHER}", "client = yes"} <= set(near.split("\n"))
    assert middle.count(f"ssl-min-ver TLSv1.2 ssl-max-ver TLSv1.2 ciphers {CIPHER}") == 2
    assert "verify required" in middle


def test_they_are_reachable_from_this_machine_only() -> None:
    near = stunnel_settings(accept="127.0.0.1:1", connect="127.0.0.1:2", tls=())
    middle = haproxy_settings(accept="127.0.0.1:2", connect="127.0.0.1:3", folder=Path("keys"))

    assert "accept = 127.0.0.1:1" in near
    assert "bind 127.0.0.1:2 ssl" in middle
