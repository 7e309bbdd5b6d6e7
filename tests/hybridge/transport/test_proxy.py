"""Tunnels through HTTP and SOCKS5 proxies that do as the test says."""

from __future__ import annotations

import asyncio
import re
import socket
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol.errors import (
    ProxyCredentialsRefused,
    ProxyFailed,
    ProxyGarbled,
    ProxyRefused,
    ProxyUnreachable,
)
from hybridge.protocol.proxies import Proxy, parse_proxy
from hybridge.transport.proxy import MAX_HEAD_BYTES, _connect_http, open_tunnel
from hybridge.transport.sockets import reset_on_close
from tests.support.loops import on_every_loop
from tests.support.proxies import Handle, answering, saying, scripted_proxy, silent

NAME = "ns1.servicebus.windows.net"
USER, PASSWORD = "al:ice", "p@ss w0rd/é"
ENCODED = "p%40ss%20w0rd%2F%C3%A9"
OK = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 corp\r\n\r\n"


def proxy_at(port: int, *, scheme: str = "http", login: str = "") -> Proxy:
    proxy = parse_proxy(f"{scheme}://{login}127.0.0.1:{port}", setting="--proxy")
    assert isinstance(proxy, Proxy)
    return proxy


async def tunnel_to(
    handle: Handle, *, scheme: str = "http", login: str = "", seconds: float = 20.0
) -> None:
    """Open a tunnel, which must fail, through a proxy that does ``handle``."""
    async with scripted_proxy(handle) as port:
        sock = await open_tunnel(
            proxy_at(port, scheme=scheme, login=login), NAME, 443, seconds=seconds
        )
        sock.close()


async def echo(sock: socket.socket, data: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, data)
    return await receive_exactly(sock, len(data))


async def receive_exactly(sock: socket.socket, size: int) -> bytes:
    received = b""
    async with asyncio.timeout(20):
        while len(received) < size:
            data = await asyncio.get_running_loop().sock_recv(sock, size - len(received))
            assert data
            received += data
    return received


# --- HTTP ----------------------------------------------------------------------------------------


@on_every_loop
async def test_an_http_proxy_is_asked_for_name_and_port_and_then_carries_bytes() -> None:
    heard: list[bytes] = []
    async with scripted_proxy(answering(OK, heard=heard)) as port:
        with await open_tunnel(proxy_at(port), NAME, 443, seconds=20) as sock:
            assert await echo(sock, b"hello") == b"hello"

    lines = heard[0].decode().split("\r\n")
    assert lines[0] == f"CONNECT {NAME}:443 HTTP/1.1"
    assert f"Host: {NAME}:443" in lines
    assert not any("authorization" in line.lower() for line in lines)


@on_every_loop
async def test_bytes_that_come_with_the_answer_are_the_tunnels_first() -> None:
    async with scripted_proxy(answering(OK + b"EARLY")) as port:
        with await open_tunnel(proxy_at(port), NAME, 443, seconds=20) as sock:
            assert await receive_exactly(sock, 5) == b"EARLY"
            assert await echo(sock, b"late") == b"late"


@on_every_loop
async def test_an_answer_may_come_byte_by_byte_after_an_interim_one() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in b"HTTP/1.1 103 Wait\r\n\r\n" + OK + b"EARLY":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await silent(reader, writer)

    async with scripted_proxy(handle) as port:
        with await open_tunnel(proxy_at(port), NAME, 443, seconds=20) as sock:
            assert await receive_exactly(sock, 5) == b"EARLY"


async def test_line_ends_without_cr_are_understood() -> None:
    async with scripted_proxy(answering(b"HTTP/1.0 200 OK\n\nEARLY")) as port:
        with await open_tunnel(proxy_at(port), NAME, 443, seconds=20) as sock:
            assert await receive_exactly(sock, 5) == b"EARLY"


async def test_user_name_and_password_are_decoded_and_sent_as_basic() -> None:
    heard: list[bytes] = []
    async with scripted_proxy(answering(OK, heard=heard)) as port:
        proxy = proxy_at(port, login=f"alice:{ENCODED}@")
        (await open_tunnel(proxy, NAME, 443, seconds=20)).close()

    basic = b64encode(f"alice:{PASSWORD}".encode()).decode()
    assert f"Proxy-Authorization: Basic {basic}" in heard[0].decode().split("\r\n")


async def test_an_ipv6_address_is_asked_for_in_brackets() -> None:
    heard: list[bytes] = []
    async with scripted_proxy(answering(OK, heard=heard)) as port:
        (await open_tunnel(proxy_at(port), "2001:db8::1", 443, seconds=20)).close()

    assert heard[0].startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n")


BASIC = b"Proxy-Authenticate: Basic realm=corp\r\n"


@pytest.mark.parametrize(
    ("head", "kind", "says", "advises"),
    [
        (b"407 Login\r\n" + BASIC, ProxyCredentialsRefused, "asks for a user name", "--proxy"),
        (
            b"407 Login\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n",
            ProxyCredentialsRefused,
            "not supported",
            "Negotiate, NTLM",
        ),
        (b"403 Filtered\r\n", ProxyRefused, "does not let us through", "allow CONNECT"),
        (b"500 Unable to connect\r\n", ProxyRefused, "cannot reach", "resolve and reach"),
        (b"502 Bad Gateway\r\n", ProxyRefused, "cannot reach", "resolve and reach"),
        (b"504 Gateway Time-out\r\n", ProxyRefused, "cannot reach", "resolve and reach"),
        (b"405 Method Not Allowed\r\n", ProxyRefused, "opened no tunnel", "an HTTP proxy"),
        (b"302 Found\r\nLocation: http://x/\r\n", ProxyRefused, "opened no tunnel", "an HTTP"),
    ],
)
async def test_what_an_http_proxy_refuses_is_said_with_a_next_step(
    head: bytes, kind: type[ProxyFailed], says: str, advises: str
) -> None:
    with pytest.raises(ProxyFailed) as caught:
        await tunnel_to(answering(b"HTTP/1.1 " + head + b"\r\n"))

    assert type(caught.value) is kind
    assert says in str(caught.value)
    assert head.split(b"\r\n")[0].decode() in str(caught.value)
    assert advises in caught.value.hint
    assert caught.value.status is None


async def test_an_http_proxy_may_refuse_credentials_with_401_as_tinyproxy_does() -> None:
    with pytest.raises(ProxyCredentialsRefused, match="refused the user name"):
        await tunnel_to(answering(b"HTTP/1.0 401 Unauthorized\r\n\r\n"), login="alice:s3cr3t@")


async def test_credentials_that_are_refused_are_not_said_to_be_missing_and_never_shown() -> None:
    # The proxy repeats what it was sent, as some do.
    answer = f"HTTP/1.1 407 No {PASSWORD} of alice\r\n".encode("latin-1") + BASIC + b"\r\n"
    with pytest.raises(ProxyCredentialsRefused) as caught:
        await tunnel_to(answering(answer), login=f"alice:{ENCODED}@")

    text = f"{caught.value} {caught.value.hint} {caught.value!r}"
    assert "refused the user name or the password (407" in text
    assert "alice" not in text
    assert PASSWORD not in text
    assert ENCODED not in text


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x05\xff",
        b"\x15\x03\x01\x00\x02\x02\x50",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + MAX_HEAD_BYTES * b"x",
    ],
)
async def test_what_is_no_http_proxy_is_told_apart_at_once(answer: bytes) -> None:
    with pytest.raises(ProxyGarbled, match="is no HTTP proxy") as caught:
        await tunnel_to(answering(answer))
    assert "scheme" in caught.value.hint


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nVia: corp"])
async def test_a_proxy_that_closes_before_it_has_answered_is_named(answer: bytes) -> None:
    with pytest.raises(ProxyGarbled, match="broke off without an answer: it closed") as caught:
        await tunnel_to(saying(answer))
    assert "scheme" in caught.value.hint


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_says_nothing_has_a_deadline(scheme: str) -> None:
    with pytest.raises(ProxyUnreachable, match=r"did not answer within 0\.05 s"):
        await tunnel_to(silent, scheme=scheme, seconds=0.05)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_is_not_there_is_named(scheme: str, unused_tcp_port: int) -> None:
    with pytest.raises(ProxyUnreachable) as caught:
        await open_tunnel(proxy_at(unused_tcp_port, scheme=scheme), NAME, 443, seconds=20)

    address = f"127.0.0.1:{unused_tcp_port}"
    assert str(caught.value) == (
        f"the proxy {scheme}://{address} cannot be reached: {address} refused the connection"
    )
    assert "--proxy" in caught.value.hint


async def test_a_proxys_name_that_is_unknown_is_said() -> None:
    proxy = parse_proxy(f"http://{64 * 'x'}.invalid:3128")
    assert isinstance(proxy, Proxy)
    with pytest.raises(ProxyUnreachable, match="cannot be resolved"):
        await open_tunnel(proxy, NAME, 443, seconds=20)


@given(
    st.one_of(
        st.binary(max_size=64),
        st.tuples(
            st.sampled_from([b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/1.1"]),
            st.sampled_from([b"200", b"299 OK", b"103", b"407 x", b"0", b"20", b"999", b""]),
            st.sampled_from(
                [b"\r\n\r\n", b"\n\n", b"\r\nA: b\r\n\r\n", b"\r\n: \r\n\r\n", b"\r\n"]
            ),
            st.binary(max_size=16),
        ).map(b"".join),
    )
)
def test_whatever_a_proxy_says_is_a_tunnel_with_all_that_follows_or_a_failure_of_the_proxy(
    said: bytes,
) -> None:
    async def run() -> None:
        near, far = socket.socketpair()
        near.setblocking(False)
        with near, far:
            far.sendall(said)
            far.shutdown(socket.SHUT_WR)
            try:
                async with asyncio.timeout(20):
                    await _connect_http(near, proxy_at(1), NAME, 443)
            except ProxyFailed:
                return
            rest = near.recv(1_000)
        head = said[: len(said) - len(rest)]
        assert said == head + rest
        assert head.startswith(b"HTTP/1.")
        assert re.search(rb"\n\r?\n$", head)

    asyncio.run(run())


# --- SOCKS5 --------------------------------------------------------------------------------------

FREE = b"\x05\x00"
WANTS_LOGIN = b"\x05\x02"
GRANTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"


@on_every_loop
async def test_a_socks_proxy_is_given_the_name_and_all_that_it_says_behind_its_answer_stays() -> (
    None
):
    heard = bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(3) == b"\x05\x01\x00"
        writer.write(FREE)
        heard.extend(await reader.readexactly(7 + len(NAME)))
        writer.write(GRANTED + b"EARLY")
        while data := await reader.read(65_536):
            writer.write(data)

    async with scripted_proxy(handle) as port:
        proxy = proxy_at(port, scheme="socks5h")
        with await open_tunnel(proxy, NAME, 443, seconds=20) as sock:
            assert await receive_exactly(sock, 5) == b"EARLY"
            assert await echo(sock, b"hello") == b"hello"

    assert bytes(heard) == b"\x05\x01\x00\x03" + bytes([len(NAME)]) + NAME.encode() + b"\x01\xbb"


async def test_a_socks_proxy_is_told_user_and_password_where_it_asks() -> None:
    heard = bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"\x02" in await reader.readexactly(4)
        writer.write(WANTS_LOGIN)
        heard.extend(await reader.readexactly(13))
        writer.write(b"\x01\x00")
        await reader.readexactly(7 + len(NAME))
        writer.write(GRANTED)

    async with scripted_proxy(handle) as port:
        proxy = proxy_at(port, scheme="socks5", login="al%3Aice:word@")
        (await open_tunnel(proxy, NAME, 443, seconds=20)).close()

    assert bytes(heard) == b"\x01\x06al:ice\x04word"


@pytest.mark.parametrize(
    ("answers", "login", "says"),
    [
        ([b"\x05\xff"], "", "asks for a user name and a password"),
        ([WANTS_LOGIN], "", "asks for a user name and a password"),
        ([b"\x05\xff"], "alice:s3cr3t@", "refused the user name or the password"),
        ([WANTS_LOGIN, b"\x01\x01"], "alice:s3cr3t@", "refused the user name or the password"),
    ],
)
async def test_a_socks_login_that_is_missing_or_refused_is_said(
    answers: list[bytes], login: str, says: str
) -> None:
    with pytest.raises(ProxyCredentialsRefused) as caught:
        await tunnel_to(saying(*answers), scheme="socks5", login=login)

    assert says in str(caught.value)
    assert "--proxy" in caught.value.hint
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (1, "cannot reach ns1.servicebus.windows.net:443: general SOCKS server failure"),
        (2, "does not let us through to ns1.servicebus.windows.net:443: connection not allowed"),
        (3, "network unreachable (SOCKS reply 3)"),
        (4, "host unreachable (SOCKS reply 4)"),
        (5, "connection refused by destination host (SOCKS reply 5)"),
        (6, "SOCKS reply 6"),
        (7, "SOCKS reply 7"),
        (8, "SOCKS reply 8"),
    ],
)
async def test_each_socks_failure_has_its_words(code: int, says: str) -> None:
    failure = bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])
    with pytest.raises(ProxyRefused) as caught:
        await tunnel_to(saying(FREE, failure), scheme="socks5")

    assert says in str(caught.value)
    assert NAME in caught.value.hint


@pytest.mark.parametrize(
    "answers", [[b"HTTP/1.1 400 Bad Request\r\n\r\n"], [FREE, b"\x05\x42\x00\x01"], [b"\x04\x00"]]
)
async def test_what_is_no_socks_proxy_is_told(answers: list[bytes]) -> None:
    with pytest.raises(ProxyGarbled, match="is no SOCKS5 proxy"):
        await tunnel_to(saying(*answers), scheme="socks5")


@pytest.mark.parametrize("answers", [[b""], [FREE, b""], [FREE, GRANTED[:6]]])
async def test_a_socks_proxy_that_closes_before_it_has_answered_is_named(
    answers: list[bytes],
) -> None:
    with pytest.raises(ProxyGarbled, match="broke off without an answer"):
        await tunnel_to(saying(*answers), scheme="socks5")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_resets_the_connection_is_named(scheme: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        reset_on_close(writer.get_extra_info("socket"))
        writer.transport.abort()

    with pytest.raises(ProxyGarbled, match="broke off without an answer: Connection reset"):
        await tunnel_to(handle, scheme=scheme)


async def test_a_name_that_socks_cannot_carry_is_said() -> None:
    async with scripted_proxy(saying(FREE, b"")) as port:
        proxy = proxy_at(port, scheme="socks5")
        with pytest.raises(ProxyFailed, match="no name may be so"):
            await open_tunnel(proxy, f"{64 * 'x'}.windows.net", 443, seconds=20)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_tunnel_that_is_given_up_leaves_nothing_open(scheme: str) -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await silent(reader, writer)
        left.set()

    async with scripted_proxy(handle) as port, asyncio.TaskGroup() as tasks:
        proxy = proxy_at(port, scheme=scheme)
        opening = tasks.create_task(open_tunnel(proxy, NAME, 443, seconds=20))
        await arrived.wait()
        opening.cancel()
        async with asyncio.timeout(20):
            await left.wait()
