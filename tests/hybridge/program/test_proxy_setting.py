"""The proxy of a program: by a flag, by a file of its own, by the configuration file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hybridge.program.proxy_setting import choose_proxy, given_proxy
from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.proxies import Proxy

KEY = "agent.json: Proxy"


def chosen(given: str | None, configured: str | None = None) -> str | None:
    choice = choose_proxy(given_proxy(given), configured, key=KEY)
    return f"{choice} of {choice.setting}" if isinstance(choice, Proxy) else choice


def test_the_command_line_comes_before_the_file_and_none_counts() -> None:
    assert chosen("p:1", "q:2") == "http://p:1 of --proxy"
    assert chosen(None, "socks5://q:2") == f"socks5://q:2 of {KEY}"
    assert chosen("none", "q:2") == "none"
    assert chosen(None) is None
    assert chosen("", "none") == "none"


def test_an_address_may_stand_in_a_file_beside_comments(tmp_path: Path) -> None:
    file = tmp_path / "proxy"
    file.write_text("# of the office\n\nhttp://alice:s3cr3t@p:1\n")
    file.chmod(0o600)

    assert chosen(f"@{file}") == f"http://***@p:1 of {file}"
    assert chosen(None, f"@{file}") == f"http://***@p:1 of {file}"


def test_a_file_with_a_password_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "proxy"
    file.write_text("http://alice:s3cr3t@p:1")
    file.chmod(0o644)

    with caplog.at_level(logging.WARNING):
        chosen(f"@{file}")

    assert "other users can read it" in caplog.text
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"# nothing\n", "holds no addresses"),
        (b"p:1\nq:2\n", "holds 2 addresses"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    file = tmp_path / "proxy"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(InvalidSetting) as caught:
        chosen(f"@{file}")

    assert str(caught.value).startswith(f"--proxy: {file} ")
    assert says in str(caught.value)
    assert caught.value.hint


def test_what_was_given_is_not_shown_before_it_is_read() -> None:
    assert "s3cr3t" not in repr(given_proxy("http://alice:s3cr3t@p:1"))
