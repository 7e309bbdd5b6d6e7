from __future__ import annotations

from hybridge.protocol.secret import Secret


def test_a_secret_shows_nothing_of_itself() -> None:
    secret = Secret("S3CRET")

    assert "S3CRET" not in f"{secret} {secret!r} {[secret]} {secret:}"
    assert secret.reveal() == "S3CRET"


def test_secrets_are_equal_by_their_text() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret("x")
