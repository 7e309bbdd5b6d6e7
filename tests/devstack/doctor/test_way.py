"""The way to the relay: each prepared fault is found by its right name, and nothing before it."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from devstack.doctor import certificates
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check, Verdict
from hybridge.protocol.connection_string import parse
from hybridge.protocol.proxies import parse_proxy
from tests.support.agent_ends import free_port
from tests.support.authority import Authority
from tests.support.examined import agent, case_of, examine, find, verdicts
from tests.support.in_between import in_between, serving
from tests.support.proxies import ConnectProxy, Handle, answering, saying, silent
from tests.support.relay import HOST, KEY, RunningRelay, certificate


async def test_a_biztalk_string(relay: RunningRelay) -> None:
    await find(case_of(relay, f"hc://{HOST}/hc1"), Fault.BIZTALK_STRING)


async def test_nothing_is_dialled_with_a_string_that_cannot_be_read(relay: RunningRelay) -> None:
    examination = await examine(case_of(relay, "hello", connect_to=None))

    assert set(verdicts(examination).values()) == {Verdict.FAIL, Verdict.SKIPPED}
    assert len(verdicts(examination)) == len(examination.findings)


async def test_a_name_that_is_unknown(relay: RunningRelay) -> None:
    # A label that is too long is unknown without a name server.
    host = "x" * 64 + ".servicebus.windows.com"
    found = await find(case_of(relay, connect_to=(host, 443)), Fault.NAME_UNKNOWN)

    assert "NAME.servicebus.windows.net" in found.next_step


async def test_a_name_server_that_is_silent(
    relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("devstack.doctor.route.look_up", silent)
    case = case_of(relay, connect_to=("relay.example.test", 443), timeout_seconds=0.05)
    await find(case, Fault.DNS_TIMEOUT)


async def test_a_closed_port(relay: RunningRelay) -> None:
    await find(case_of(relay, connect_to=("127.0.0.1", free_port())), Fault.PORT_CLOSED)


async def test_a_tcp_black_hole(relay: RunningRelay, black_hole: tuple[str, int]) -> None:
    case = case_of(relay, connect_to=black_hole, timeout_seconds=0.2)
    await find(case, Fault.TCP_TIMEOUT)


async def test_a_network_without_a_way_there(
    relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_route(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("hybridge.transport.tcp._connect", no_route)
    await find(case_of(relay), Fault.NO_ROUTE)


def greeting(
    text: bytes,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """What is no relay: it says its greeting, and then waits for the end."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await reader.read()

    return greet


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate()[:2])
    return context


@pytest.mark.parametrize("text", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad\r\n\r\n"])
async def test_a_port_that_speaks_no_tls(relay: RunningRelay, text: bytes) -> None:
    async with serving(greeting(text)) as address:
        await find(case_of(relay, connect_to=address), Fault.NOT_TLS)


async def test_a_port_that_says_nothing(relay: RunningRelay) -> None:
    async with serving(greeting(b"")) as address:
        case = case_of(relay, connect_to=address, timeout_seconds=1.0)
        await find(case, Fault.TLS_TIMEOUT)


async def test_tls_of_a_version_that_is_too_old(relay: RunningRelay) -> None:
    context = server_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with serving(greeting(b""), context=context) as address:
        found = await find(case_of(relay, connect_to=address), Fault.TLS_TOO_OLD)

    assert "TLSv1.1" in found.what


async def test_tls_of_a_version_that_we_do_not_speak(relay: RunningRelay) -> None:
    context = server_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    async with serving(greeting(b""), context=context) as address:
        found = await find(case_of(relay, connect_to=address), Fault.TLS_FAILED)

    assert "TLSv1.3 only" in found.what
    assert found.next_step == "allow TLS 1.2 there"


async def test_a_handshake_that_is_cut(relay: RunningRelay) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with serving(cut) as address:
        await find(case_of(relay, connect_to=address), Fault.TLS_FAILED)


async def test_a_relays_own_authority_that_was_not_given(relay: RunningRelay) -> None:
    found = await find(case_of(relay, ca=None), Fault.UNTRUSTED_ISSUER)

    assert "'Hybridge development CA" in found.what
    assert "hybridge-relay ca" in found.next_step


async def test_a_proxy_that_inspects_tls_and_its_issuer(
    relay: RunningRelay, tmp_path: Path
) -> None:
    authority = Authority("Corp Proxy CA", tmp_path)
    shown = authority.server_context(HOST)
    async with in_between(relay.connect_to, shown=shown) as address:
        found = await find(case_of(relay, connect_to=address), Fault.UNTRUSTED_ISSUER)
        trusting = await examine(case_of(relay, connect_to=address, ca=authority.path))

    assert "'Corp Proxy CA'" in found.what
    assert "inspects TLS" in found.next_step
    assert verdicts(trusting)[Check.TOKEN] is Verdict.OK


async def test_a_certificate_for_another_name(relay: RunningRelay) -> None:
    text = relay.connection_string().replace(HOST, "relay.example.test")
    found = await find(case_of(relay, text), Fault.WRONG_NAME)

    assert "*.servicebus.windows.net" in found.what


async def test_a_certificate_that_is_not_shown_a_second_time(
    relay: RunningRelay, tmp_path: Path
) -> None:
    shown = Authority("Corp CA", tmp_path).server_context(HOST)
    asked: list[str | None] = []

    def only_once(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int | None:
        asked.append(name)
        return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR if len(asked) > 1 else None

    shown.sni_callback = only_once
    async with serving(greeting(b""), context=shown) as address:
        found = await find(case_of(relay, connect_to=address), Fault.UNTRUSTED_ISSUER)

    assert found.what == f"the certificate of {HOST} is not trusted by this machine"


async def test_a_certificate_that_is_over(relay: RunningRelay, tmp_path: Path) -> None:
    authority = Authority("Corp CA", tmp_path)
    shown = authority.server_context(HOST, ends_in=datetime.timedelta(seconds=-5))
    async with in_between(relay.connect_to, shown=shown) as address:
        case = case_of(relay, connect_to=address, ca=authority.path)
        await find(case, Fault.CERTIFICATE_EXPIRED)


async def test_a_certificate_that_breaks_a_rule(relay: RunningRelay) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 26, "unsuitable certificate purpose"
    async with serving(greeting(b""), context=server_context()) as address:
        case = case_of(relay, connect_to=address)
        found = await certificates.explain(error, case, parse(relay.connection_string()))

    assert found.fault is Fault.CERTIFICATE_UNUSABLE
    assert found.what.endswith("is not accepted: unsuitable certificate purpose")
    assert "'Hybridge development CA" in found.what


async def test_tls_with_something_that_is_no_relay(relay: RunningRelay) -> None:
    for text in (b"421 mail.example.test closes\r\n", b"HTTP?\r\n\r\n"):
        async with serving(saying(text), context=server_context()) as address:
            await find(case_of(relay, connect_to=address), Fault.NOT_A_RELAY)


# --- the proxy ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handle", "fault", "seconds"),
    [
        (answering(b"HTTP/1.1 407 Who are you\r\n\r\n"), Fault.PROXY_AUTHENTICATION, 20.0),
        (answering(b"HTTP/1.1 403 Not that way\r\n\r\n"), Fault.PROXY_REFUSES, 20.0),
        (answering(b"HTTP/1.1 502 No such name\r\n\r\n"), Fault.PROXY_FAILED, 20.0),
        (answering(b"SSH-2.0-OpenSSH\r\n\r\n"), Fault.PROXY_GARBAGE, 20.0),
        (silent, Fault.PROXY_TIMEOUT, 1.0),
    ],
)
async def test_a_proxy_that_does_not_let_us_through(
    relay: RunningRelay, handle: Handle, fault: Fault, seconds: float
) -> None:
    async with serving(handle) as (host, port):
        proxy = f"http://user:{KEY.rstrip('=')}@{host}:{port}"
        found = await find(case_of(relay, proxy=parse_proxy(proxy), timeout_seconds=seconds), fault)

    assert KEY.rstrip("=") not in found.what + found.next_step


@pytest.mark.parametrize(
    ("proxy", "host", "fault"),
    [
        (f"http://{'p' * 64}.corp.local:3128", "p" * 64, Fault.NAME_UNKNOWN),
        ("socks5://127.0.0.1:1", "127.0.0.1", Fault.PORT_CLOSED),
    ],
)
async def test_a_proxy_that_is_not_there(
    relay: RunningRelay, proxy: str, host: str, fault: Fault
) -> None:
    found = await find(case_of(relay, proxy=parse_proxy(proxy)), fault)

    assert host in found.what
    assert "check the proxy's host" in found.next_step


async def test_a_proxy_that_leads_to_the_relay(relay: RunningRelay) -> None:
    proxy = ConnectProxy({f"{HOST}:443": relay.connect_to})
    async with agent(relay), serving(proxy.handle) as (host, port):
        case = case_of(relay, proxy=parse_proxy(f"http://{host}:{port}"), connect_to=None)
        examination = await examine(case)

    assert examination.cause is None
    assert verdicts(examination)[Check.PROXY] is Verdict.OK
    assert set(proxy.asked) == {f"{HOST}:443"}
